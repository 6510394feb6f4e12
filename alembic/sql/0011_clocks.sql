-- A server's clock may jump: forwards by hours, and back again. What was stored meanwhile says times that are not now,
-- and must not bind anybody for hours (docs/decisions/0019).

-- Whether a grant can be used no more: it has expired, or was made by a clock that has gone back since. A clock that is
-- put right by a few seconds ends no grant.
CREATE FUNCTION grant_is_over(v dial_attempts) RETURNS boolean LANGUAGE sql VOLATILE AS $$
    SELECT v.expires_at <= clock_timestamp() OR v.granted_at > clock_timestamp() + interval '1 minute';
$$;
REVOKE EXECUTE ON FUNCTION grant_is_over(dial_attempts) FROM PUBLIC;

-- Why a granted attempt may not be dialled now, checked under its row's lock by this server's clock. NULL = it may.
CREATE OR REPLACE FUNCTION begin_dial_refusal(v dial_attempts, p_pod_uid text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_account accounts%ROWTYPE;
    v_held integer := 0;
BEGIN
    IF v.granted_pod_uid <> p_pod_uid THEN
        RETURN 'WrongPod';
    ELSIF grant_is_over(v) THEN
        RETURN 'Expired';
    ELSIF v.cancel_requested_at IS NOT NULL THEN
        RETURN 'Canceled';
    ELSIF NOT EXISTS (SELECT 1 FROM campaigns WHERE namespace = v.namespace AND name = v.campaign
                      AND NOT suspended AND NOT closed) THEN
        RETURN 'Suspended';
    END IF;
    FOR v_account IN SELECT a.* FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = v.id LOOP
        IF v_account.closed THEN
            RETURN 'BudgetNotFound';
        ELSIF v_account.suspended THEN
            RETURN 'Suspended';
        ELSIF NOT window_is_open(v_account) THEN
            RETURN 'WindowClosed';
        END IF;
        v_held := v_held + 1;
    END LOOP;
    IF v_held = 0 THEN
        RETURN 'BudgetNotFound';
    END IF;
    RETURN gate_refusal(v.contact_id, v.account_sid);
END $$;

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
