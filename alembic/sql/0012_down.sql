-- A campaign's own pace goes; the account's stays.
CREATE OR REPLACE FUNCTION begin_dial(p_attempt uuid, p_pod_uid text, p_nonce uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_carrier carrier_accounts%ROWTYPE;
    v_reason text;
    v_now timestamptz;
    v_interval interval;
BEGIN
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    v_now := clock_timestamp();
    IF NOT FOUND THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason', 'UnknownAttempt');
    END IF;
    IF v.state = 'dialing' AND v.nonce = p_nonce AND v.owner_pod_uid = p_pod_uid THEN
        RETURN jsonb_build_object('verdict', 'go', 'order', dial_order(p_attempt));
    ELSIF v.state <> 'granted' THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason',
            CASE WHEN v.state = 'revoked' THEN 'Revoked' ELSE 'AlreadyBegun' END);
    END IF;
    v_reason := begin_dial_refusal(v, p_pod_uid);
    -- Another pod's mistake must not take the grant from the pod that it names.
    IF v_reason = 'WrongPod' THEN
        RETURN jsonb_build_object('verdict', 'refused', 'reason', v_reason);
    ELSIF v_reason IS NOT NULL THEN
        PERFORM ledger_release(p_attempt, v_reason);
        RETURN jsonb_build_object('verdict', 'refused', 'reason', v_reason);
    END IF;
    SELECT * INTO v_carrier FROM carrier_accounts WHERE account_sid = v.account_sid FOR UPDATE;
    v_now := clock_timestamp();
    v_interval := make_interval(secs => 1 / v_carrier.calls_per_second::double precision);
    -- Nobody is told to wait for longer than from one call to the next: a later moment is another clock's.
    IF v_carrier.next_dial_at > v_now AND v_carrier.next_dial_at <= v_now + v_interval THEN
        RETURN jsonb_build_object('verdict', 'wait', 'retry_at', v_carrier.next_dial_at, 'reason', 'Pacing');
    END IF;
    UPDATE carrier_accounts SET next_dial_at = v_now + v_interval
        WHERE account_sid = v.account_sid;
    UPDATE dial_attempts SET state = 'dialing', nonce = p_nonce, owner_pod_uid = p_pod_uid, owner_generation = 1,
        begun_at = v_now WHERE id = p_attempt;
    INSERT INTO calls (id, contact_id, status) VALUES (p_attempt, v.contact_id, 'dialing');
    RETURN jsonb_build_object('verdict', 'go', 'order', dial_order(p_attempt));
END $$;

ALTER TABLE campaigns DROP COLUMN calls_per_second, DROP COLUMN next_dial_at;
DROP FUNCTION pace_wait(timestamptz, interval, timestamptz);
DROP FUNCTION dial_interval(numeric);
