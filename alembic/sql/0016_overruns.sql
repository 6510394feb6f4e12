-- An overrun outlives its window, and somebody can say that they have looked (docs/decisions/0034).

-- All windows of an account's kind (daily, monthly, total) of the same object, past ones included.
CREATE FUNCTION windows_of(v accounts) RETURNS SETOF accounts LANGUAGE sql STABLE AS $$
    SELECT k.* FROM accounts k WHERE k.namespace = v.namespace AND k.kind = v.kind AND k.name = v.name
        AND split_part(k.time_window, '/', 1) = split_part(v.time_window, '/', 1);
$$;

-- Those among them in which an overrun stops the account: its own window and all before it, while the object is the same
-- and unchanged.
CREATE FUNCTION overrun_windows(v accounts) RETURNS SETOF accounts LANGUAGE sql STABLE AS $$
    SELECT k.* FROM windows_of(v) k WHERE k.overrun AND k.limit_uid = v.limit_uid
        AND k.limit_generation = v.limit_generation AND (k.id = v.id OR k.window_start < v.window_start);
$$;

-- As it was, but that a window takes over what overran in those before it. Not only when it is made: what was called in
-- a window may be settled, and corrected by the carrier's bill, after its end.
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

-- What stops until somebody has looked: of each object and kind of window the newest account.
CREATE FUNCTION overruns() RETURNS TABLE (
    account text, namespace text, kind text, name text, time_window text, meters text[]
) LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT n.key, n.namespace, n.kind, n.name, n.time_window, ARRAY(
        SELECT DISTINCT meter FROM overrun_windows(n) o CROSS JOIN LATERAL unnest(o.overrun_meters) AS meter
        ORDER BY meter)
    FROM accounts n WHERE NOT n.closed AND EXISTS (SELECT 1 FROM overrun_windows(n))
        AND NOT EXISTS (SELECT 1 FROM windows_of(n) later WHERE later.window_start > n.window_start);
$$;

-- Somebody has looked at the prices: the accounts go on, in all windows of their kind, with a row each in the audit log.
-- All or none: answers those of which nothing is overrun, or that there are not; then nothing was changed.
CREATE FUNCTION overrun_clear(p_accounts text[], p_actor text, p_reason text) RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_ids bigint[];
    v_fine text[];
BEGIN
    -- Locked in the order of all functions; overruns are judged behind the locks, as they are then.
    v_ids := ARRAY(SELECT id FROM accounts WHERE id IN (
        SELECT w.id FROM accounts a CROSS JOIN LATERAL windows_of(a) w WHERE a.key = ANY(p_accounts)
    ) ORDER BY id FOR NO KEY UPDATE);
    v_fine := ARRAY(SELECT asked FROM unnest(p_accounts) AS asked WHERE NOT EXISTS (
        SELECT 1 FROM accounts a CROSS JOIN LATERAL windows_of(a) w WHERE a.key = asked AND w.overrun));
    IF v_fine <> '{}' THEN
        RETURN v_fine;
    END IF;
    INSERT INTO audit_log (actor, action, subject, reason, before, after)
        SELECT p_actor, 'overrun.clear', a.key, p_reason,
            jsonb_object_agg(w.time_window, w.overrun_meters), jsonb_object_agg(w.time_window, NULL)
        FROM accounts a CROSS JOIN LATERAL windows_of(a) w
        WHERE a.key = ANY(p_accounts) AND w.overrun GROUP BY a.id ORDER BY a.id;
    UPDATE accounts SET overrun = false, overrun_meters = '{}' WHERE id = ANY(v_ids) AND overrun;
    RETURN '{}';
END $$;

REVOKE EXECUTE ON FUNCTION windows_of(accounts), overrun_windows(accounts), overruns(),
    overrun_clear(text[], text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION overruns(), overrun_clear(text[], text, text) TO callfleet_auditor;
