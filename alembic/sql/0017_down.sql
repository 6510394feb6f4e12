-- A release before knows no zone of an account.
DROP FUNCTION ledger_set_limit(bigint, text, text, text, text, timestamptz, timestamptz, text, bigint, boolean, text, bigint, text);
CREATE OR REPLACE FUNCTION ledger_set_limit(
    p_epoch bigint, p_namespace text, p_kind text, p_name text, p_window text, p_start timestamptz,
    p_end timestamptz, p_currency text, p_limit_micros bigint, p_suspended boolean, p_uid text, p_generation bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key text := p_namespace || '/' || p_kind || '/' || p_name || '/' || p_window;
    v accounts%ROWTYPE;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    -- One object has one currency in all its windows, past ones included.
    IF EXISTS (SELECT 1 FROM accounts WHERE namespace = p_namespace AND kind = p_kind AND name = p_name
               AND currency <> p_currency) THEN
        RETURN 'CurrencyMismatch';
    END IF;
    INSERT INTO accounts (key, namespace, kind, name, time_window, window_start, window_end, currency, limit_micros,
                          suspended, limit_uid, limit_generation, limit_epoch)
    VALUES (v_key, p_namespace, p_kind, p_name, p_window, p_start, p_end, p_currency, p_limit_micros,
            p_suspended, p_uid, p_generation, p_epoch)
    ON CONFLICT (key) DO NOTHING;
    SELECT * INTO v FROM accounts WHERE key = v_key FOR UPDATE;
    IF v.limit_uid = p_uid AND v.limit_generation > p_generation THEN
        RETURN 'Stale';
    END IF;
    -- A new generation says that somebody has looked at an overrun.
    v.limit_uid := p_uid;
    v.limit_generation := p_generation;
    UPDATE accounts SET limit_micros = p_limit_micros, suspended = p_suspended, closed = false,
        overrun = EXISTS (SELECT 1 FROM overrun_windows(v)),
        overrun_meters = ARRAY(
            SELECT DISTINCT meter FROM overrun_windows(v) o CROSS JOIN LATERAL unnest(o.overrun_meters) AS meter
            ORDER BY meter),
        limit_uid = p_uid, limit_generation = p_generation, limit_epoch = p_epoch WHERE id = v.id;
    RETURN 'Applied';
END $$;
ALTER TABLE accounts DROP COLUMN time_zone;
CREATE OR REPLACE FUNCTION begin_dial(p_attempt uuid, p_pod_uid text, p_nonce uuid) RETURNS jsonb
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_carrier carrier_accounts%ROWTYPE;
    v_reason text;
    v_now timestamptz;
    v_campaign campaigns%ROWTYPE;
    v_hours jsonb;
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
    -- The newest hours: whoever changes them waits for the dials that go by the older ones.
    SELECT hours INTO v_hours FROM campaigns WHERE namespace = v.namespace AND name = v.campaign
        AND hours IS NOT NULL FOR SHARE;
    SELECT * INTO v_carrier FROM carrier_accounts WHERE account_sid = v.account_sid FOR UPDATE;
    v_now := clock_timestamp();
    -- By the moment at which the call begins: all that could be waited for has been waited for.
    IF NOT hours_open(v_hours, callee_zones(v.namespace, v.campaign, v.run_id, v.contact_id), v_now) THEN
        PERFORM ledger_release(p_attempt, 'OutsideCallingHours');
        RETURN jsonb_build_object('verdict', 'refused', 'reason', 'OutsideCallingHours');
    END IF;
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
CREATE OR REPLACE FUNCTION ledger_correct(p_epoch bigint, p_attempt uuid, p_day date, p_price_micros bigint) RETURNS jsonb
LANGUAGE plpgsql AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_known bigint;
    v_delta bigint;
    v_number smallint;
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    IF p_price_micros < 0 THEN
        RAISE EXCEPTION 'a call''s price is not below 0';
    END IF;
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    -- Evidence that is still to come settles the whole cost; a correction before it would count the call twice.
    IF NOT FOUND OR v.state <> 'settled' OR v.reason IS NOT DISTINCT FROM 'LateEvidence'
       OR v.end_status IN ('unresolved', 'notPlaced') THEN
        RETURN jsonb_build_object('result', 'Unsettled');
    END IF;
    SELECT COALESCE(sum(amount_micros), 0) INTO v_known FROM cost_lines
        WHERE attempt_id = p_attempt AND meter IN ('carrier_voice_minutes', 'carrier_voice_correction');
    v_delta := p_price_micros - v_known;
    IF v_delta = 0 THEN
        RETURN jsonb_build_object('result', 'Same');
    END IF;
    PERFORM 1 FROM accounts WHERE id IN (SELECT account_id FROM holds WHERE attempt_id = p_attempt)
        ORDER BY id FOR UPDATE;
    SELECT COALESCE(max(number), 0) + 1 INTO v_number FROM ledger_entries
        WHERE attempt_id = p_attempt AND kind = 'correction';
    INSERT INTO ledger_entries (attempt_id, account_id, kind, number, held_micros, spent_micros, limit_micros, at)
        SELECT p_attempt, h.account_id, 'correction', v_number, 0, v_delta, a.limit_micros, v_now
        FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = p_attempt;
    UPDATE accounts a SET spent_micros = a.spent_micros + v_delta,
            overrun = a.overrun OR (v_delta > 0 AND v.actual_micros + v_delta > h.amount_micros)
        FROM holds h WHERE h.attempt_id = p_attempt AND h.account_id = a.id;
    INSERT INTO cost_lines VALUES (p_attempt, 'carrier_voice_correction', v_number, v_delta)
        ON CONFLICT (attempt_id, meter) DO UPDATE SET quantity = EXCLUDED.quantity,
            amount_micros = cost_lines.amount_micros + EXCLUDED.amount_micros;
    UPDATE dial_attempts SET actual_micros = v.actual_micros + v_delta WHERE id = p_attempt;
    UPDATE calls SET cost = (v.actual_micros + v_delta) / 1000000.0 WHERE id = p_attempt;
    INSERT INTO carrier_differences (account_sid, day, kind, call_sid, attempt_id, expected, found, delta_micros,
                                     correction)
        VALUES (v.account_sid, p_day, 'Price', v.call_sid, p_attempt, trim_scale(v_known / 1000000.0)::text,
                trim_scale(p_price_micros / 1000000.0)::text, v_delta, v_number);
    RETURN jsonb_build_object('result', 'Corrected', 'delta_micros', v_delta);
END $$;
CREATE OR REPLACE FUNCTION ledger_close_account(p_epoch bigint, p_namespace text, p_kind text, p_name text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    UPDATE accounts SET closed = true
    WHERE namespace = p_namespace AND kind = p_kind AND name = p_name AND NOT closed;
END $$;
REVOKE EXECUTE ON FUNCTION ledger_set_limit(bigint, text, text, text, text, timestamptz, timestamptz, text, bigint, boolean, text, bigint) FROM PUBLIC;
