-- Booking the carrier's calls that a restored database does not know. Their money is an entry of its own kind: a hold
-- was made and judged in the books that were lost, so these are judged by no limit, but count for every later hold.
ALTER TABLE ledger_entries
    DROP CONSTRAINT ledger_entries_kind_check,
    ADD CONSTRAINT ledger_entries_kind_check
        CHECK (kind IN ('hold', 'release', 'settle', 'late', 'correction', 'recovery'));
CREATE OR REPLACE VIEW holds AS
    SELECT attempt_id, account_id, held_micros AS amount_micros FROM ledger_entries WHERE kind IN ('hold', 'recovery');
ALTER TABLE carrier_differences
    DROP CONSTRAINT carrier_differences_kind_check,
    ADD CONSTRAINT carrier_differences_kind_check CHECK (kind IN ('UnknownCall', 'MissingCall', 'Status', 'Duration',
                                                                  'Price', 'Unpriced', 'Currency', 'Lost'));

-- In which runs somebody is still to be called.
CREATE INDEX campaign_contacts_unfinished ON campaign_contacts (contact_id) WHERE finished_at IS NULL;

-- A call of the carrier's that is to be booked. `closes`: the runs that may have placed it, as namespace, campaign,
-- run_id and the person's contact_id there; none where it is known whose it was.
CREATE TYPE lost_call AS (
    call_sid text,
    account_sid text,
    created_at timestamptz,
    status text,
    final boolean,
    duration_s integer,
    ended_at timestamptz,
    attempt_id uuid,
    number_hash text,
    contact_id uuid,
    namespace text,
    campaign text,
    run_id text,
    session_name text,
    session_uid text,
    pod_uid text,
    from_number text,
    currency text,
    hold_micros bigint,
    accounts text[],
    time_limit_s integer,
    ring_timeout_s integer,
    max_queue_s integer,
    time_zone text,
    script text,
    disposition text,
    closes jsonb
);

-- The attempt of ours whose call this must be, by number, account and time, locked: one whose dial was begun and has no
-- SID yet, or a grant that was in force when the call was created. NULL: the database has none.
CREATE FUNCTION recovery_match(p lost_call) RETURNS dial_attempts LANGUAGE sql AS $$
    SELECT a FROM dial_attempts a
    WHERE a.number_hash = p.number_hash AND a.account_sid = p.account_sid AND a.call_sid IS NULL AND CASE
        WHEN a.state = 'dialing' OR (a.state IN ('ended', 'settled') AND a.end_status = 'unresolved') THEN
            p.created_at BETWEEN a.begun_at - interval '1 minute' AND a.begun_at + interval '10 minutes'
        WHEN a.state = 'granted' THEN
            p.created_at BETWEEN a.granted_at - interval '1 minute' AND a.expires_at + interval '1 minute'
        ELSE false END
    ORDER BY abs(extract(epoch FROM p.created_at - COALESCE(a.begun_at, a.granted_at))) LIMIT 1 FOR UPDATE;
$$;

-- Somebody who is being talked to is not hung up on because nobody saw them answer.
CREATE FUNCTION recovery_answered(p_attempt uuid, p lost_call) RETURNS void LANGUAGE sql AS $$
    SELECT record_answered(p_attempt, p.call_sid, p.created_at) WHERE p.status = 'in-progress';
$$;

-- Gives an attempt that the database has the call that was placed for it.
CREATE FUNCTION recovery_adopt(v dial_attempts, p lost_call) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF v.state = 'granted' THEN
        UPDATE dial_attempts SET state = 'placed', begun_at = p.created_at, placed_at = p.created_at,
            call_sid = p.call_sid, owner_pod_uid = granted_pod_uid, owner_generation = 1, reason = 'Recovered'
            WHERE id = v.id;
        INSERT INTO calls (id, contact_id, status, created_at) VALUES (v.id, v.contact_id, 'placed', p.created_at);
    ELSE
        PERFORM record_placed(v.id, p.call_sid);
    END IF;
    PERFORM recovery_answered(v.id, p);
END $$;

-- Makes an attempt of a call that the database never knew. What is over is no open attempt of its number; what may be
-- live is.
CREATE FUNCTION recovery_insert(p lost_call, p_id uuid, p_epoch bigint) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_digest bytea := sha256(convert_to(p.script, 'UTF8'));
BEGIN
    INSERT INTO call_scripts VALUES (v_digest, p.script) ON CONFLICT DO NOTHING;
    INSERT INTO dial_attempts (id, state, number, namespace, campaign, run_id, contact_id, session_name, session_uid,
        number_hash, account_sid, from_number, currency, hold_micros, time_limit_s, ring_timeout_s, max_queue_s,
        time_zone, script_digest, granted_pod_uid, owner_pod_uid, owner_generation, epoch, granted_at, expires_at,
        begun_at, placed_at, call_sid, reason)
    SELECT p_id, 'ended', COALESCE(max(a.number), 0) + 1, p.namespace, p.campaign, p.run_id, p.contact_id,
        p.session_name, p.session_uid, p.number_hash, p.account_sid, p.from_number, p.currency, p.hold_micros,
        p.time_limit_s, p.ring_timeout_s, p.max_queue_s, p.time_zone, v_digest, p.pod_uid, p.pod_uid, 1, p_epoch,
        p.created_at, p.created_at, p.created_at, p.created_at, p.call_sid, 'Recovered'
    FROM dial_attempts a WHERE a.contact_id = p.contact_id AND a.campaign = p.campaign AND a.run_id = p.run_id;
    INSERT INTO calls (id, contact_id, status, created_at) VALUES (p_id, p.contact_id, 'placed', p.created_at);
    IF p.final THEN
        UPDATE dial_attempts SET end_status = p.status, duration_s = p.duration_s, ended_at = p.ended_at,
            evidence = jsonb_build_object('source', 'operator', 'status', p.status, 'call_sid', p.call_sid,
                'duration_s', p.duration_s, 'at', p.ended_at) WHERE id = p_id;
        UPDATE calls SET status = p.status, end_time = p.ended_at, duration = p.duration_s WHERE id = p_id;
    ELSE
        UPDATE dial_attempts SET state = 'placed' WHERE id = p_id;
        PERFORM recovery_answered(p_id, p);
    END IF;
END $$;

-- Posts what the call may have cost, or costs at most, to the locked accounts; one in another currency never held for it.
CREATE FUNCTION recovery_post(p lost_call, p_id uuid) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO ledger_entries (attempt_id, account_id, kind, held_micros, spent_micros, limit_micros, at)
        SELECT p_id, id, 'recovery', p.hold_micros, 0, limit_micros, clock_timestamp()
        FROM accounts WHERE key = ANY (p.accounts) AND currency = p.currency ORDER BY id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'call % can be booked to no account in %', p.call_sid, p.currency;
    END IF;
    UPDATE accounts SET held_micros = held_micros + p.hold_micros
        WHERE key = ANY (p.accounts) AND currency = p.currency;
END $$;

-- Nobody calls this person again in a run that may have called them: in those runs of which they are unfinished, and,
-- where they are on none of the lists, in all (an older list may come back by an import). Runs of campaigns that are
-- gone are closed, too: they come back when somebody applies them again. Answers how many were closed.
CREATE FUNCTION recovery_close_runs(p lost_call) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_closed integer;
    v_listed boolean;
    v_state text := CASE WHEN p.status IN ('completed', 'busy', 'no-answer') THEN 'Completed' ELSE 'Failed' END;
BEGIN
    IF p.campaign <> '' AND jsonb_array_length(p.closes) = 0 THEN
        RETURN 0;
    END IF;
    v_listed := EXISTS (
        SELECT FROM jsonb_to_recordset(p.closes) AS c (namespace text, campaign text, run_id text, contact_id uuid)
        JOIN campaign_contacts l USING (namespace, campaign, run_id, contact_id));
    UPDATE campaign_contacts l SET finished_at = clock_timestamp(), state = v_state, disposition = p.disposition
    FROM (SELECT DISTINCT namespace FROM campaigns) n JOIN contacts c USING (namespace)
    WHERE c.number_hash = p.number_hash AND l.contact_id = c.id AND l.finished_at IS NULL AND (
        EXISTS (SELECT FROM jsonb_to_recordset(p.closes) AS k (namespace text, campaign text)
                WHERE k.namespace = l.namespace AND k.campaign = l.campaign)
        OR NOT EXISTS (SELECT FROM campaigns k WHERE k.namespace = l.namespace AND k.name = l.campaign AND NOT k.closed));
    GET DIAGNOSTICS v_closed = ROW_COUNT;
    IF v_listed THEN
        RETURN v_closed;
    END IF;
    INSERT INTO campaign_contacts (namespace, campaign, run_id, contact_id, position, state, disposition, finished_at)
        SELECT c.namespace, c.campaign, c.run_id, c.contact_id, COALESCE((
            SELECT max(position) + 1 FROM campaign_contacts l WHERE l.namespace = c.namespace
                AND l.campaign = c.campaign AND l.run_id = c.run_id), 0), v_state, p.disposition, clock_timestamp()
        FROM jsonb_to_recordset(p.closes) AS c (namespace text, campaign text, run_id text, contact_id uuid)
        ON CONFLICT DO NOTHING;
    RETURN v_closed + jsonb_array_length(p.closes);
END $$;

-- Books one of the carrier's calls, once: `Known` where an attempt has it, `Adopted` where an attempt of ours was meant
-- by it, `Recovered` where a new one had to be made, `NumberOpen` where that must wait for another call to the number.
CREATE FUNCTION ledger_recover(p_epoch bigint, p_call jsonb) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    p lost_call := jsonb_populate_record(NULL::lost_call, p_call);
    v dial_attempts;
    v_open dial_attempts;
    v_id uuid;
    v_closed integer := 0;
BEGIN
    PERFORM ledger_assert_epoch(p_epoch);
    IF NOT EXISTS (SELECT 1 FROM installation WHERE recovering_since IS NOT NULL) THEN
        RAISE EXCEPTION 'nothing is being recovered: no call is booked';
    ELSIF EXISTS (SELECT 1 FROM dial_attempts WHERE call_sid = p.call_sid) THEN
        RETURN 'Known';
    END IF;
    v := recovery_match(p);
    v_id := v.id;
    IF v_id IS NOT NULL THEN
        PERFORM recovery_adopt(v, p);
        IF p.final THEN
            PERFORM record_ended(v_id, jsonb_build_object('source', 'operator', 'status', p.status,
                'call_sid', p.call_sid, 'duration_s', p.duration_s, 'at', p.ended_at));
        END IF;
    ELSE
        -- An id that the database has is another attempt's by now.
        SELECT CASE WHEN count(*) = 0 THEN p.attempt_id ELSE gen_random_uuid() END INTO v_id
            FROM dial_attempts WHERE id = p.attempt_id;
        SELECT * INTO v_open FROM dial_attempts
            WHERE number_hash = p.number_hash AND state IN ('granted', 'dialing', 'placed') FOR UPDATE;
        IF v_open.state IN ('dialing', 'placed') AND NOT p.final THEN
            RETURN 'NumberOpen';
        END IF;
        PERFORM 1 FROM accounts WHERE key = ANY (p.accounts)
            OR id IN (SELECT account_id FROM holds WHERE attempt_id = v_open.id) ORDER BY id FOR UPDATE;
        IF v_open.state = 'granted' THEN
            PERFORM ledger_release(v_open.id, 'Recovered');
        END IF;
        PERFORM recovery_insert(p, v_id, p_epoch);
        PERFORM recovery_post(p, v_id);
        v_closed := recovery_close_runs(p);
    END IF;
    INSERT INTO carrier_differences (account_sid, day, kind, call_sid, attempt_id, expected, found)
        VALUES (p.account_sid, (p.created_at AT TIME ZONE 'UTC')::date, 'Lost', p.call_sid, v_id, COALESCE(v.state, ''),
                p.status || ', ' || COALESCE(p.duration_s, 0) || ' s'
                || CASE WHEN v_closed > 0 THEN ', closed in ' || v_closed || ' run(s)' ELSE '' END)
        ON CONFLICT DO NOTHING;
    RETURN CASE WHEN v.id IS NULL THEN 'Recovered' ELSE 'Adopted' END;
END $$;

REVOKE EXECUTE ON FUNCTION recovery_match(lost_call), recovery_answered(uuid, lost_call),
    recovery_adopt(dial_attempts, lost_call), recovery_insert(lost_call, uuid, bigint),
    recovery_post(lost_call, uuid), recovery_close_runs(lost_call), ledger_recover(bigint, jsonb) FROM PUBLIC;
