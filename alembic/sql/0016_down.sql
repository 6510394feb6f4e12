-- An overrun is its window's alone again, and looked at by changing the object.
DROP FUNCTION overrun_clear(text[], text, text);
DROP FUNCTION overruns();
CREATE OR REPLACE FUNCTION ledger_set_limit(
    p_epoch bigint, p_namespace text, p_kind text, p_name text, p_window text, p_start timestamptz,
    p_end timestamptz, p_currency text, p_limit_micros bigint, p_suspended boolean, p_uid text, p_generation bigint
) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_key text := p_namespace || '/' || p_kind || '/' || p_name || '/' || p_window;
    v accounts%ROWTYPE;
    v_same boolean;
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
    v_same := v.limit_uid = p_uid AND v.limit_generation = p_generation;
    UPDATE accounts SET limit_micros = p_limit_micros, suspended = p_suspended, closed = false,
        overrun = v.overrun AND v_same, overrun_meters = CASE WHEN v_same THEN v.overrun_meters ELSE '{}' END,
        limit_uid = p_uid, limit_generation = p_generation, limit_epoch = p_epoch WHERE id = v.id;
    RETURN 'Applied';
END $$;
DROP FUNCTION overrun_windows(accounts);
DROP FUNCTION windows_of(accounts);
