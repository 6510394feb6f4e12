-- A settlement an attempt, and none of its caps: what was posted stays as it is.
DROP FUNCTION ledger_settle(bigint, jsonb);
DROP FUNCTION ledger_post_settlements(settle_try[]);
DROP FUNCTION settle_lock(jsonb);
DROP TYPE settle_try;
CREATE FUNCTION ledger_settle(p_epoch bigint, p_attempt uuid, p_lines jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_actual bigint;
    v_late boolean;
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    v_late := v.state = 'settled' AND v.reason IS NOT DISTINCT FROM 'LateEvidence';
    IF NOT FOUND OR NOT (v.state = 'ended' OR v_late) THEN
        RETURN COALESCE(v.state, 'unknown');
    END IF;
    SELECT COALESCE(sum((line->>'amount_micros')::bigint), 0) INTO v_actual FROM jsonb_array_elements(p_lines) line;
    PERFORM 1 FROM accounts WHERE id IN (SELECT account_id FROM holds WHERE attempt_id = p_attempt)
        ORDER BY id FOR UPDATE;
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT p_attempt, h.account_id, CASE WHEN v_late THEN 'late' ELSE 'settle' END,
               CASE WHEN v_late THEN 0 ELSE -h.amount_micros END, v_actual, a.limit_micros, v_now
        FROM holds h JOIN accounts a ON a.id = h.account_id WHERE h.attempt_id = p_attempt;
    UPDATE accounts a SET
            held_micros = a.held_micros - CASE WHEN v_late THEN 0 ELSE h.amount_micros END,
            spent_micros = a.spent_micros + v_actual,
            overrun = a.overrun OR v_actual > h.amount_micros
        FROM holds h WHERE h.attempt_id = p_attempt AND h.account_id = a.id;
    INSERT INTO cost_lines SELECT p_attempt, line->>'meter', (line->>'quantity')::numeric,
                                  (line->>'amount_micros')::bigint FROM jsonb_array_elements(p_lines) line
        ON CONFLICT (attempt_id, meter) DO UPDATE SET quantity = EXCLUDED.quantity, amount_micros = EXCLUDED.amount_micros;
    UPDATE dial_attempts SET state = 'settled', settled_at = v_now, actual_micros = v_actual,
        reason = CASE WHEN v_late THEN NULL ELSE reason END WHERE id = p_attempt;
    UPDATE calls SET cost = v_actual / 1000000.0 WHERE id = p_attempt;
    RETURN 'settled';
END $$;
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
    UPDATE accounts SET limit_micros = p_limit_micros, suspended = p_suspended, closed = false,
        overrun = overrun AND limit_uid = p_uid AND limit_generation = p_generation,
        limit_uid = p_uid, limit_generation = p_generation, limit_epoch = p_epoch WHERE id = v.id;
    RETURN 'Applied';
END $$;
ALTER TABLE accounts DROP COLUMN overrun_meters;
ALTER TABLE cost_lines DROP COLUMN cap_quantity, DROP COLUMN cap_micros;
REVOKE EXECUTE ON FUNCTION ledger_settle(bigint, uuid, jsonb) FROM PUBLIC;
