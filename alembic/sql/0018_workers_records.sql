-- What a worker writes of its call, it writes through functions that know whose call it is (docs/decisions/0035); no
-- table is its role's. They lock in the order contact, attempt, call: erasing a person begins with the contact, and who
-- ends or settles an attempt goes on to its call.

-- The call's person, locked against being erased meanwhile, and whether they were; the attempt, against another owner.
-- NULL where the call is not this worker's.
CREATE FUNCTION worker_lock_call(
    p_attempt uuid, p_pod_uid text, p_generation integer, OUT contact uuid, OUT erased boolean
) LANGUAGE plpgsql AS $$
BEGIN
    -- Asked before anything is locked: nobody keeps others waiting for a call that is not theirs.
    IF NOT worker_owns(p_attempt, p_pod_uid, p_generation) THEN
        RETURN;
    END IF;
    SELECT c.id, c.erased_at IS NOT NULL INTO contact, erased FROM contacts c
        WHERE c.id = (SELECT contact_id FROM dial_attempts WHERE id = p_attempt) FOR KEY SHARE;
    PERFORM 1 FROM dial_attempts WHERE id = p_attempt AND owner_pod_uid = p_pod_uid AND owner_generation = p_generation
        FOR SHARE;
    IF NOT FOUND THEN
        contact := NULL;
    END IF;
END $$;

-- Appends turns; one that is there already stays as it is. Of whoever was erased only that something was said is kept.
-- Answers whether the call is this worker's; if not, nothing is written.
CREATE FUNCTION worker_add_turns(p_attempt uuid, p_pod_uid text, p_generation integer, p_turns jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    v := worker_lock_call(p_attempt, p_pod_uid, p_generation);
    IF v.contact IS NULL THEN
        RETURN false;
    END IF;
    INSERT INTO conversations (call_id, seq, agent_type, message_type, content, timestamp, metadata)
        SELECT p_attempt, t.seq, t.agent_type, t.message_type,
            CASE WHEN v.erased THEN '' ELSE decode(t.content, 'base64') END, t.at,
            CASE WHEN v.erased THEN '{}' ELSE t.metadata END
        FROM jsonb_to_recordset(p_turns) AS t (
            seq integer, agent_type text, message_type text, content text, at timestamptz, metadata jsonb)
        ON CONFLICT (call_id, seq) DO NOTHING;
    RETURN true;
END $$;

-- Keeps what was learned of a call's person; of whoever was erased no answers.
CREATE FUNCTION worker_keep_lead(p_attempt uuid, p_contact uuid, p_erased boolean, p_lead jsonb) RETURNS void
LANGUAGE sql AS $$
    INSERT INTO lead_scores (contact_id, call_id, qualification_score, interest_level, budget_qualified, timeline,
                             decision_maker, fields)
        SELECT p_contact, p_attempt, l.qualification_score, l.interest_level, l.budget_qualified,
            CASE WHEN p_erased THEN NULL ELSE l.timeline END, l.decision_maker,
            CASE WHEN p_erased THEN '{}' ELSE l.fields END
        FROM jsonb_to_record(p_lead) AS l (
            qualification_score numeric, interest_level text, budget_qualified boolean, timeline text,
            decision_maker boolean, fields jsonb)
        ON CONFLICT (call_id) DO UPDATE SET qualification_score = EXCLUDED.qualification_score,
            interest_level = EXCLUDED.interest_level, budget_qualified = EXCLUDED.budget_qualified,
            timeline = EXCLUDED.timeline, decision_maker = EXCLUDED.decision_maker, fields = EXCLUDED.fields;
$$;

-- Stores outcome, lead (where there is one) and usage; doing it again overwrites with the same. A wish not to be called
-- stays, whatever comes after it. Answers as worker_add_turns does.
CREATE FUNCTION worker_finish(p_attempt uuid, p_pod_uid text, p_generation integer, p_outcome jsonb) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    v := worker_lock_call(p_attempt, p_pod_uid, p_generation);
    IF v.contact IS NULL THEN
        RETURN false;
    END IF;
    UPDATE calls c SET turns = o.turns, decided_by = o.decided_by, latency_ms_p50 = o.latency_ms_p50,
            disposition = CASE WHEN c.disposition = 'optedOut' THEN c.disposition ELSE o.disposition END
        FROM jsonb_to_record(p_outcome) AS o (disposition text, turns integer, decided_by jsonb, latency_ms_p50 integer)
        WHERE c.id = p_attempt;
    IF jsonb_typeof(p_outcome->'lead') = 'object' THEN
        PERFORM worker_keep_lead(p_attempt, v.contact, v.erased, p_outcome->'lead');
    END IF;
    INSERT INTO call_usage (call_id, meter, provider, quantity)
        SELECT p_attempt, u.meter, u.provider, u.quantity
        FROM jsonb_to_recordset(p_outcome->'usage') AS u (meter text, provider text, quantity numeric)
        ON CONFLICT (call_id, meter, provider) DO UPDATE SET quantity = EXCLUDED.quantity;
    RETURN true;
END $$;

-- The person wishes not to be called again: on the list from now on (by calls_keep_opt_out), whatever becomes of the
-- worker. Saying it again changes nothing. Answers as worker_add_turns does.
CREATE FUNCTION worker_opted_out(p_attempt uuid, p_pod_uid text, p_generation integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v record;
BEGIN
    v := worker_lock_call(p_attempt, p_pod_uid, p_generation);
    IF v.contact IS NULL THEN
        RETURN false;
    END IF;
    UPDATE calls SET disposition = 'optedOut' WHERE id = p_attempt AND disposition IS DISTINCT FROM 'optedOut';
    RETURN true;
END $$;

-- Until when workers of the release before, which know no functions, may write their calls' records into the tables:
-- one row, or none where that is over.
CREATE TABLE worker_tables (until timestamptz PRIMARY KEY);

-- Takes the tables away from the workers' role now.
CREATE FUNCTION worker_tables_revoke() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM worker_tables;
    REVOKE ALL ON calls, conversations, lead_scores, call_usage FROM callfleet_worker;
END $$;

-- Takes them away when it is time; answers whether that was now.
CREATE FUNCTION worker_tables_close() RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM worker_tables WHERE until <= clock_timestamp()) THEN
        RETURN false;
    END IF;
    PERFORM worker_tables_revoke();
    RETURN true;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT 1 FROM dial_attempts) THEN
        -- Their calls go on: without the tables they would lose what was said, and who wished not to be called again.
        INSERT INTO worker_tables VALUES (clock_timestamp() + interval '1 day');
        -- They never read what was said.
        REVOKE SELECT ON conversations FROM callfleet_worker;
        GRANT SELECT (call_id, seq) ON conversations TO callfleet_worker;
    ELSE
        PERFORM worker_tables_revoke();
    END IF;
END $$;

REVOKE EXECUTE ON FUNCTION worker_lock_call(uuid, text, integer), worker_keep_lead(uuid, uuid, boolean, jsonb),
    worker_add_turns(uuid, text, integer, jsonb), worker_finish(uuid, text, integer, jsonb),
    worker_opted_out(uuid, text, integer), worker_tables_revoke(), worker_tables_close() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION worker_add_turns(uuid, text, integer, jsonb), worker_finish(uuid, text, integer, jsonb),
    worker_opted_out(uuid, text, integer) TO callfleet_worker;
