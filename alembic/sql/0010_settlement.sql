-- Settlements by sets (docs/decisions/0020): a batch is locked, judged and posted in a handful of statements, and what
-- each meter ran is kept beside what it was capped at. Locks are taken in the order of all functions: epoch, attempts
-- (by id), accounts (by id).

-- What the meter was capped at when the money was held; NULL: the hold named no caps.
ALTER TABLE cost_lines ADD COLUMN cap_quantity numeric(14, 3), ADD COLUMN cap_micros bigint;
-- The meters that ran above their caps since somebody last looked at the account; none: an overrun was above its hold.
ALTER TABLE accounts ADD COLUMN overrun_meters text[] NOT NULL DEFAULT '{}';

-- One item of a batch: `due`, where there is something to post; else the state is the answer.
CREATE TYPE settle_try AS (
    ord bigint,
    attempt_id uuid,
    state text,
    due boolean,
    late boolean,
    hold_micros bigint,
    actual_micros bigint,
    meters_over text[],
    lines jsonb
);

-- The batch's attempts, locked by id and as they are now that they are locked. Ended ones are due, and settled ones about
-- which the carrier spoke later: but only for the end that was priced (`ends`, NULL: whichever it is).
CREATE FUNCTION settle_lock(p_batch jsonb) RETURNS settle_try[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN ARRAY(
        SELECT ROW(a.ord, a.id, a.state, (a.state = 'ended' OR a.late) AND COALESCE(a.seen = a.end_status, true), a.late,
                   a.hold_micros, run.actual, run.meters_over, run.lines)::settle_try
        FROM (
            SELECT i.ord, i.seen, i.lines, a.id, a.state, a.end_status, a.hold_micros, a.caps,
                   a.state = 'settled' AND a.reason IS NOT DISTINCT FROM 'LateEvidence' AS late
            FROM (
                SELECT DISTINCT ON (id) ord, id::uuid AS id, seen, lines FROM ROWS FROM (
                    jsonb_array_elements_text(p_batch->'attempt_ids'), jsonb_array_elements_text(p_batch->'ends'),
                    jsonb_array_elements(p_batch->'lines')) WITH ORDINALITY AS i (id, seen, lines, ord)
                ORDER BY id, ord
            ) i JOIN dial_attempts a ON a.id = i.id
            ORDER BY a.id FOR NO KEY UPDATE OF a
        ) a CROSS JOIN LATERAL (
            SELECT COALESCE(sum(l.amount_micros), 0)::bigint AS actual,
                   -- A meter without a cap, where others have one, was not to run at all.
                   COALESCE(array_agg(l.meter ORDER BY l.meter) FILTER (WHERE l.quantity > l.cap_quantity), '{}')
                       AS meters_over,
                   COALESCE(jsonb_agg(to_jsonb(l)), '[]') AS lines
            FROM (
                SELECT l.*, CASE WHEN a.caps <> '{}' THEN COALESCE((a.caps->l.meter->>0)::numeric, 0) END AS cap_quantity,
                       CASE WHEN a.caps <> '{}' THEN COALESCE((a.caps->l.meter->>1)::bigint, 0) END AS cap_micros
                FROM jsonb_to_recordset(a.lines) AS l (meter text, quantity numeric, amount_micros bigint)
            ) l
        ) run);
END $$;

-- Posts actual costs against their holds; the rest returns. An actual above its hold, or a meter above its cap, is posted
-- in full and marks the accounts as overrun. What is late comes beside a settlement at 0, without a hold to return.
CREATE FUNCTION ledger_post_settlements(p_tries settle_try[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM 1 FROM accounts WHERE id IN (
        SELECT h.account_id FROM unnest(p_tries) t JOIN holds h ON h.attempt_id = t.attempt_id
    ) ORDER BY id FOR NO KEY UPDATE;
    WITH posted AS (
        INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT t.attempt_id, h.account_id, CASE WHEN t.late THEN 'late' ELSE 'settle' END,
               CASE WHEN t.late THEN 0 ELSE -h.amount_micros END, t.actual_micros, a.limit_micros, v_now
        FROM unnest(p_tries) t JOIN holds h ON h.attempt_id = t.attempt_id JOIN accounts a ON a.id = h.account_id
        ORDER BY t.ord, a.id
        RETURNING attempt_id, account_id, held_micros, spent_micros
    )
    UPDATE accounts a SET held_micros = a.held_micros + p.held_micros, spent_micros = a.spent_micros + p.spent_micros,
        overrun = a.overrun OR p.above_hold OR p.above_cap,
        overrun_meters = CASE WHEN p.above_cap THEN ARRAY(
            SELECT DISTINCT meter FROM posted o JOIN unnest(p_tries) t USING (attempt_id)
            CROSS JOIN LATERAL unnest(a.overrun_meters || t.meters_over) AS meter
            WHERE o.account_id = a.id ORDER BY meter) ELSE a.overrun_meters END
    FROM (
        SELECT p.account_id, sum(p.held_micros)::bigint AS held_micros, sum(p.spent_micros)::bigint AS spent_micros,
               bool_or(p.spent_micros > t.hold_micros) AS above_hold, bool_or(t.meters_over <> '{}') AS above_cap
        FROM posted p JOIN unnest(p_tries) t USING (attempt_id) GROUP BY p.account_id
    ) p WHERE a.id = p.account_id;
    INSERT INTO cost_lines (attempt_id, meter, quantity, amount_micros, cap_quantity, cap_micros)
        SELECT t.attempt_id, l.* FROM unnest(p_tries) t CROSS JOIN LATERAL jsonb_to_recordset(t.lines) AS l (
            meter text, quantity numeric, amount_micros bigint, cap_quantity numeric, cap_micros bigint)
        ON CONFLICT (attempt_id, meter) DO UPDATE SET quantity = EXCLUDED.quantity,
            amount_micros = EXCLUDED.amount_micros, cap_quantity = EXCLUDED.cap_quantity, cap_micros = EXCLUDED.cap_micros;
    UPDATE dial_attempts a SET state = 'settled', settled_at = v_now, actual_micros = t.actual_micros,
        reason = CASE WHEN t.late THEN NULL ELSE a.reason END
        FROM unnest(p_tries) t WHERE a.id = t.attempt_id;
    UPDATE calls c SET cost = t.actual_micros / 1000000.0 FROM unnest(p_tries) t WHERE c.id = t.attempt_id;
END $$;

-- Settles a batch of attempts, each once, in one transaction; answers the state of each, in their order. What is asked
-- again finds itself settled. By indexes and generic plans, as ledger_hold.
DROP FUNCTION ledger_settle(bigint, uuid, jsonb);
CREATE FUNCTION ledger_settle(p_epoch bigint, p_batch jsonb) RETURNS text[]
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    v_tries settle_try[];
    v_due settle_try[];
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    v_tries := settle_lock(p_batch);
    v_due := ARRAY(SELECT t FROM unnest(v_tries) t WHERE t.due);
    IF cardinality(v_due) > 0 THEN
        PERFORM ledger_post_settlements(v_due);
    END IF;
    RETURN ARRAY(
        SELECT CASE WHEN t.attempt_id IS NULL THEN 'unknown' WHEN t.due THEN 'settled' ELSE t.state END
        FROM jsonb_array_elements_text(p_batch->'attempt_ids') WITH ORDINALITY AS i (id, ord)
        LEFT JOIN unnest(v_tries) t ON t.attempt_id = i.id::uuid ORDER BY i.ord);
END $$;

-- As it was, but that somebody who changes the object has looked at the meters, too.
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
REVOKE EXECUTE ON FUNCTION settle_lock(jsonb), ledger_post_settlements(settle_try[]), ledger_settle(bigint, jsonb)
    FROM PUBLIC;
