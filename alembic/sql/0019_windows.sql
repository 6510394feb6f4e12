-- Every window counts, whether it has a limit or not (docs/decisions/0037).

-- As it was, but that a window without a limit is opened beside those of another time zone.
CREATE OR REPLACE FUNCTION ledger_set_limit(
    p_epoch bigint, p_namespace text, p_kind text, p_name text, p_window text, p_start timestamptz,
    p_end timestamptz, p_currency text, p_limit_micros bigint, p_suspended boolean, p_uid text, p_generation bigint,
    p_zone text DEFAULT NULL
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
    -- Nor two todays: while a day or month of another zone lasts that has a limit, or has counted anything, none that
    -- overlaps it is limited. What only counts is in nobody's way; but a name stays that of its first bounds.
    IF EXISTS (SELECT 1 FROM accounts WHERE namespace = p_namespace AND kind = p_kind AND name = p_name
               AND split_part(time_window, '/', 1) = split_part(p_window, '/', 1) AND time_zone <> p_zone
               AND (key = v_key OR (p_limit_micros IS NOT NULL AND window_start < p_end AND window_end > p_start
                    AND (limit_micros IS NOT NULL OR held_micros <> 0 OR spent_micros <> 0)))) THEN
        RETURN 'TimeZoneMismatch';
    END IF;
    INSERT INTO accounts (key, namespace, kind, name, time_window, window_start, window_end, currency, limit_micros,
                          suspended, limit_uid, limit_generation, limit_epoch, time_zone)
    VALUES (v_key, p_namespace, p_kind, p_name, p_window, p_start, p_end, p_currency, p_limit_micros,
            p_suspended, p_uid, p_generation, p_epoch, p_zone)
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
        limit_uid = p_uid, limit_generation = p_generation, limit_epoch = p_epoch,
        time_zone = COALESCE(v.time_zone, p_zone) WHERE id = v.id;
    RETURN 'Applied';
END $$;
