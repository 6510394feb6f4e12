-- A campaign's own pace of dialling, beside its carrier account's (docs/decisions/0022). It is kept where the dial is
-- begun, under the campaign's row lock and by this server's clock, so that no change of leader and no restart forgets it.
ALTER TABLE campaigns
    ADD COLUMN calls_per_second numeric(8, 3) CHECK (calls_per_second > 0),
    ADD COLUMN next_dial_at timestamptz;

-- From one call to the next at a pace; NULL where there is none.
CREATE FUNCTION dial_interval(p_calls_per_second numeric) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT make_interval(secs => 1 / p_calls_per_second::double precision);
$$;

-- Until when a pace makes the next dial wait; NULL: it need not. Nobody is told to wait for longer than from one call to
-- the next: a later moment is another clock's, or another pace's.
CREATE FUNCTION pace_wait(p_next_dial_at timestamptz, p_interval interval, p_now timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_next_dial_at WHERE p_next_dial_at > p_now AND p_next_dial_at <= p_now + p_interval;
$$;
REVOKE EXECUTE ON FUNCTION dial_interval(numeric), pace_wait(timestamptz, interval, timestamptz) FROM PUBLIC;

CREATE OR REPLACE FUNCTION begin_dial(p_attempt uuid, p_pod_uid text, p_nonce uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_carrier carrier_accounts%ROWTYPE;
    v_reason text;
    v_now timestamptz;
    v_campaign campaigns%ROWTYPE;
    v_wait timestamptz;
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
    -- Both paces must allow it before either is used up; locked in one order, the campaign's row first.
    SELECT * INTO v_campaign FROM campaigns WHERE namespace = v.namespace AND name = v.campaign
        AND calls_per_second IS NOT NULL FOR NO KEY UPDATE;
    SELECT * INTO v_carrier FROM carrier_accounts WHERE account_sid = v.account_sid FOR UPDATE;
    v_now := clock_timestamp();
    v_wait := GREATEST(
        pace_wait(v_campaign.next_dial_at, dial_interval(v_campaign.calls_per_second), v_now),
        pace_wait(v_carrier.next_dial_at, dial_interval(v_carrier.calls_per_second), v_now));
    IF v_wait IS NOT NULL THEN
        RETURN jsonb_build_object('verdict', 'wait', 'retry_at', v_wait, 'reason', 'Pacing');
    END IF;
    UPDATE campaigns SET next_dial_at = v_now + dial_interval(calls_per_second)
        WHERE namespace = v_campaign.namespace AND name = v_campaign.name;
    UPDATE carrier_accounts SET next_dial_at = v_now + dial_interval(calls_per_second)
        WHERE account_sid = v.account_sid;
    UPDATE dial_attempts SET state = 'dialing', nonce = p_nonce, owner_pod_uid = p_pod_uid, owner_generation = 1,
        begun_at = v_now WHERE id = p_attempt;
    INSERT INTO calls (id, contact_id, status) VALUES (p_attempt, v.contact_id, 'dialing');
    RETURN jsonb_build_object('verdict', 'go', 'order', dial_order(p_attempt));
END $$;
