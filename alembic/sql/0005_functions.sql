-- Holding money by sets (docs/decisions/0014): a batch is judged, granted and posted in a handful of statements, and
-- waits for another hold only where both need the same number or the same account. Every function takes its locks in
-- one order: epoch, attempts (holds: by number), carrier account, ledger accounts (by id); so none can deadlock.

-- Shared by the operator's writes, exclusive for a new epoch, which therefore waits for the writes of the old one.
-- A lock of the row would do the same, but eight transactions that share one make PostgreSQL write a multixact each,
-- and may keep a new leader waiting for as long as they come.
CREATE FUNCTION ledger_epoch_lock() RETURNS bigint LANGUAGE sql IMMUTABLE AS $$ SELECT 868613094::bigint $$;

CREATE OR REPLACE FUNCTION ledger_take_epoch() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_epoch bigint;
BEGIN
    PERFORM pg_advisory_xact_lock(ledger_epoch_lock());
    UPDATE installation SET epoch = epoch + 1 WHERE id = 1 RETURNING epoch INTO v_epoch;
    RETURN v_epoch;
END $$;

CREATE OR REPLACE FUNCTION ledger_assert_epoch(p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(ledger_epoch_lock());
    -- Its own statement, so that it sees what was committed while the lock was waited for.
    IF NOT EXISTS (SELECT 1 FROM installation WHERE id = 1 AND epoch = p_epoch) THEN
        RAISE EXCEPTION 'epoch % is over: another operator leads', p_epoch USING ERRCODE = 'CF001';
    END IF;
END $$;

-- Who may not be called, and why; NULL = may be. One row, so that a set of people is judged in one statement.
CREATE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT stopped FROM installation WHERE id = 1) THEN 'Stopped'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;

CREATE OR REPLACE FUNCTION gate_refusal(p_contact uuid, p_account_sid text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT reason FROM gate(p_contact, p_account_sid);
$$;

-- One item of a batch on its way: `refusal` says why it was not held, NULL that it is.
CREATE TYPE hold_try AS (
    ord bigint,
    attempt_id uuid,
    number integer,
    contact_id uuid,
    campaign text,
    run_id text,
    max_attempts integer,
    amount_micros bigint,
    currency text,
    accounts text[],
    expires_at timestamptz,
    granted boolean,
    refusal jsonb
);

-- Refuses a batch that names a script or a carrier account that the database does not have: whoever asks knows more
-- than it does. It was restored from a backup, or the account was never proven.
CREATE FUNCTION hold_known(p_batch jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_scripts bytea[];
    v_sids text[];
BEGIN
    SELECT array_agg(DISTINCT decode(script, 'hex')), array_agg(DISTINCT account_sid) INTO v_scripts, v_sids
        FROM jsonb_to_recordset(p_batch->'terms') AS t (script text, account_sid text);
    IF (SELECT count(*) FROM call_scripts WHERE digest = ANY (v_scripts)) < cardinality(v_scripts) THEN
        RAISE EXCEPTION 'a script of the batch is not here' USING ERRCODE = 'CF002';
    END IF;
    IF (SELECT count(*) FROM carrier_accounts WHERE account_sid = ANY (v_sids)) < cardinality(v_sids) THEN
        RAISE EXCEPTION 'a carrier account of the batch is not registered' USING ERRCODE = 'foreign_key_violation';
    END IF;
END $$;

-- Judges a batch and grants what may be called, in the order of numbers, whatever the money says: that comes next, in
-- the same transaction. `terms` is what items have in common, said once; `scripts` are those that may be new here.
CREATE FUNCTION hold_grant(p_epoch bigint, p_batch jsonb) RETURNS hold_try[] LANGUAGE plpgsql AS $$
DECLARE
    v_now timestamptz := clock_timestamp();
    v_tries hold_try[];
BEGIN
    IF p_batch ? 'scripts' THEN
        INSERT INTO call_scripts SELECT sha256(convert_to(script, 'UTF8')), script
            FROM jsonb_array_elements_text(p_batch->'scripts') AS script ORDER BY 1 ON CONFLICT DO NOTHING;
    END IF;
    PERFORM hold_known(p_batch);
    WITH terms AS MATERIALIZED (
        SELECT * FROM ROWS FROM (jsonb_to_recordset(p_batch->'terms') AS (
            namespace text, campaign text, run_id text, currency text, accounts text[], time_limit_s integer,
            ring_timeout_s integer, max_queue_s integer, account_sid text, from_number text, time_zone text,
            script text, max_attempts integer, expires_after_s integer, caps jsonb)) WITH ORDINALITY AS t (
            namespace, campaign, run_id, currency, accounts, time_limit_s, ring_timeout_s, max_queue_s, account_sid,
            from_number, time_zone, script, max_attempts, expires_after_s, caps, place)
    ), judged AS MATERIALIZED (
        SELECT i.*, t.*, c.number_hash, CASE
            WHEN c.id IS NULL THEN jsonb_build_object('result', 'NoConsent')
            WHEN k.name IS NULL OR k.suspended OR k.closed THEN jsonb_build_object('result', 'Suspended')
            WHEN g.reason IS NOT NULL THEN jsonb_build_object('result', g.reason)
            -- Not, or no longer, on the run's list, or done there: an object alone calls nobody.
            WHEN l.contact_id IS NULL OR l.finished_at IS NOT NULL THEN jsonb_build_object('result', 'Closed')
            END AS refusal
        FROM (
            SELECT ord, attempt_id::uuid, number::integer, contact_id::uuid, session_name, session_uid, pod_uid,
                   amount_micros::bigint, place::integer + 1 AS place
            FROM ROWS FROM (
                jsonb_array_elements_text(p_batch->'attempt_ids'), jsonb_array_elements_text(p_batch->'numbers'),
                jsonb_array_elements_text(p_batch->'contact_ids'), jsonb_array_elements_text(p_batch->'session_names'),
                jsonb_array_elements_text(p_batch->'session_uids'), jsonb_array_elements_text(p_batch->'pod_uids'),
                jsonb_array_elements_text(p_batch->'amounts_micros'), jsonb_array_elements_text(p_batch->'places')
            ) WITH ORDINALITY AS i (
                attempt_id, number, contact_id, session_name, session_uid, pod_uid, amount_micros, place, ord)
        ) i
        JOIN terms t USING (place)
        LEFT JOIN contacts c ON c.id = i.contact_id AND c.namespace = t.namespace
        LEFT JOIN campaigns k ON k.namespace = t.namespace AND k.name = t.campaign
        LEFT JOIN campaign_contacts l ON l.namespace = t.namespace AND l.campaign = t.campaign
            AND l.run_id = t.run_id AND l.contact_id = i.contact_id
        CROSS JOIN LATERAL gate(i.contact_id, t.account_sid) g
    ), granted AS (
        INSERT INTO dial_attempts (id, state, number, namespace, campaign, run_id, contact_id, session_name,
            session_uid, number_hash, account_sid, from_number, currency, hold_micros, time_limit_s, ring_timeout_s,
            max_queue_s, time_zone, script_digest, granted_pod_uid, epoch, granted_at, expires_at, caps)
        SELECT attempt_id, 'granted', number, namespace, campaign, run_id, contact_id, session_name, session_uid,
            number_hash, account_sid, from_number, currency, amount_micros, time_limit_s, ring_timeout_s, max_queue_s,
            time_zone, decode(script, 'hex'), pod_uid, p_epoch, v_now, v_now + make_interval(secs => expires_after_s),
            COALESCE(caps, '{}')
        FROM judged WHERE refusal IS NULL ORDER BY number_hash, ord
        ON CONFLICT DO NOTHING RETURNING id
    )
    SELECT array_agg(ROW(j.ord, j.attempt_id, j.number, j.contact_id, j.campaign, j.run_id, j.max_attempts,
                         j.amount_micros, j.currency, j.accounts, v_now + make_interval(secs => j.expires_after_s),
                         g.id IS NOT NULL, j.refusal)::hold_try ORDER BY j.ord)
        INTO v_tries FROM judged j LEFT JOIN granted g ON g.id = j.attempt_id;
    IF cardinality(v_tries) IS DISTINCT FROM jsonb_array_length(p_batch->'attempt_ids') THEN
        RAISE EXCEPTION 'an item of the batch names terms that are not in it';
    END IF;
    RETURN v_tries;
END $$;

-- Refuses those who were called in their run before, as often as the campaign allows, or whose number is open. It is
-- asked after the grants are in: from then on no other hold for these numbers can come between.
CREATE FUNCTION hold_without_called(p_tries hold_try[]) RETURNS hold_try[] LANGUAGE plpgsql AS $$
BEGIN
    RETURN (SELECT array_agg(ROW(t.ord, t.attempt_id, t.number, t.contact_id, t.campaign, t.run_id, t.max_attempts,
                         t.amount_micros, t.currency, t.accounts, t.expires_at, t.granted, CASE
            -- Asked again: the answer was lost.
            WHEN same.id IS NOT NULL THEN jsonb_build_object(
                'result', CASE WHEN same.state = 'granted' THEN 'Held' ELSE 'Closed' END, 'expires_at', same.expires_at)
            WHEN t.refusal IS NOT NULL THEN t.refusal
            WHEN past.closed OR past.tries >= t.max_attempts THEN jsonb_build_object('result', 'Closed')
            WHEN NOT t.granted THEN jsonb_build_object('result', 'NumberBusy')
            END)::hold_try ORDER BY t.ord)
    FROM unnest(p_tries) t
    -- Looked for only where nothing was granted: NULL is in no index.
    LEFT JOIN dial_attempts same ON same.id = CASE WHEN NOT t.granted THEN t.attempt_id END
    CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE a.counts) AS tries,
               bool_or(a.state <> 'settled' OR a.number >= t.number
                       OR a.end_status NOT IN ('busy', 'no-answer', 'canceled', 'notPlaced')) AS closed
        FROM dial_attempts a WHERE a.contact_id = t.contact_id AND a.campaign = t.campaign AND a.run_id = t.run_id
            AND a.state <> 'revoked' AND a.id <> t.attempt_id
    ) past);
END $$;

-- The accounts of the tries, locked in one order and as they are now that they are locked.
CREATE FUNCTION ledger_lock_accounts(p_tries hold_try[]) RETURNS accounts[] LANGUAGE plpgsql AS $$
DECLARE
    v_keys text[] := ARRAY(SELECT DISTINCT unnest(t.accounts) FROM unnest(p_tries) t);
BEGIN
    RETURN ARRAY(SELECT locked FROM (
        SELECT * FROM accounts WHERE key = ANY (v_keys) ORDER BY id FOR NO KEY UPDATE) locked);
END $$;

-- Whether the locked accounts can take all the tries together. False leaves open which one cannot.
CREATE FUNCTION ledger_covers(p_tries hold_try[], p_accounts accounts[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    RETURN NOT EXISTS (
        SELECT FROM (SELECT key, min(t.currency) AS least, max(t.currency) AS most, sum(t.amount_micros) AS amount
                     FROM unnest(p_tries) t LEFT JOIN LATERAL unnest(t.accounts) AS key ON true GROUP BY key) asked
        LEFT JOIN unnest(p_accounts) a USING (key)
        -- No account at all, too.
        WHERE a.id IS NULL OR a.closed OR a.suspended OR a.overrun
            OR a.currency <> asked.least OR a.currency <> asked.most
            OR NOT COALESCE(a.window_start <= clock_timestamp(), true)
            OR NOT COALESCE(clock_timestamp() < a.window_end, true)
            OR a.spent_micros + a.held_micros + asked.amount > a.limit_micros);
END $$;

-- Posts holds that the locked accounts cover: an account's balance moves by the sum of its entries.
CREATE FUNCTION ledger_post_holds(p_tries hold_try[], p_accounts accounts[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    WITH posted AS (
        INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT t.attempt_id, a.id, 'hold', t.amount_micros, 0, a.limit_micros, clock_timestamp()
        FROM unnest(p_tries) t CROSS JOIN LATERAL unnest(t.accounts) AS held (key)
        JOIN unnest(p_accounts) a USING (key) ORDER BY t.ord, a.id
        RETURNING account_id, held_micros
    )
    UPDATE accounts a SET held_micros = a.held_micros + p.held_micros
    FROM (SELECT account_id, sum(held_micros) AS held_micros FROM posted GROUP BY account_id) p
    WHERE a.id = p.account_id;
END $$;

-- Where not all is covered: in the order given, each item whole or not at all.
CREATE FUNCTION ledger_post_one_by_one(p_tries hold_try[], p_accounts accounts[]) RETURNS hold_try[]
LANGUAGE plpgsql AS $$
DECLARE
    v hold_try;
    v_tries hold_try[] := '{}';
BEGIN
    FOREACH v IN ARRAY p_tries LOOP
        v.refusal := ledger_refusal(v.accounts, v.currency, v.amount_micros);
        IF v.refusal IS NULL THEN
            PERFORM ledger_post_holds(ARRAY[v], p_accounts);
        END IF;
        v_tries := v_tries || v;
    END LOOP;
    RETURN v_tries;
END $$;

-- Holds a batch, in the order given, in one transaction: each item is held whole or not at all. Generic plans, since
-- a plan made for each batch costs more than the batch; and by indexes whatever the statistics say, since a plan made
-- while the tables were small would read them whole for as long as it is kept, and be compiled for it.
CREATE OR REPLACE FUNCTION ledger_hold(p_epoch bigint, p_batch jsonb) RETURNS jsonb
LANGUAGE plpgsql SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET jit = off AS $$
DECLARE
    v_tries hold_try[];
    v_open hold_try[];
    v_accounts accounts[];
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    v_tries := hold_without_called(hold_grant(p_epoch, p_batch));
    v_open := ARRAY(SELECT t FROM unnest(v_tries) t WHERE t.refusal IS NULL ORDER BY t.ord);
    v_accounts := ledger_lock_accounts(v_open);
    IF ledger_covers(v_open, v_accounts) THEN
        PERFORM ledger_post_holds(v_open, v_accounts);
    ELSE
        v_open := ledger_post_one_by_one(v_open, v_accounts);
        v_tries := ARRAY(SELECT COALESCE(o, t) FROM unnest(v_tries) t LEFT JOIN unnest(v_open) o ON o.ord = t.ord
                         ORDER BY t.ord);
    END IF;
    -- Granted, but refused after all: gone before anybody could see it.
    IF EXISTS (SELECT FROM unnest(v_tries) t WHERE t.granted AND t.refusal IS NOT NULL) THEN
        DELETE FROM dial_attempts WHERE id IN (
            SELECT t.attempt_id FROM unnest(v_tries) t WHERE t.granted AND t.refusal IS NOT NULL);
    END IF;
    -- The answers, in the order of the items.
    RETURN (SELECT jsonb_agg(COALESCE(t.refusal, jsonb_build_object('result', 'Held', 'expires_at', t.expires_at))
                             ORDER BY t.ord) FROM unnest(v_tries) t);
END $$;
DROP FUNCTION ledger_hold_one;

-- `a.script` of an attempt `a`, as if it were a column.
CREATE FUNCTION script(a dial_attempts) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT s.script::jsonb FROM call_scripts s WHERE s.digest = a.script_digest;
$$;
REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;
