-- Calling hours (docs/decisions/0027): a campaign's schedule, in the mirror that begin_dial asks, and the time zones of
-- whoever is called. A number's own zones are NULL until whatever lists the person is read again, and empty where the
-- number tells none; a zone that a list states of a person goes before them.
ALTER TABLE campaigns ADD COLUMN hours jsonb;
ALTER TABLE contacts ADD COLUMN time_zones text[];
ALTER TABLE campaign_contacts ADD COLUMN time_zone text;
ALTER TABLE contact_list_entries ADD COLUMN time_zone text;

-- The zones in which a person may be; none: nobody knows.
CREATE FUNCTION callee_zones(p_namespace text, p_campaign text, p_run_id text, p_contact uuid) RETURNS text[]
LANGUAGE sql STABLE AS $$
    SELECT COALESCE(
        (SELECT ARRAY[time_zone] FROM campaign_contacts WHERE namespace = p_namespace AND campaign = p_campaign
            AND run_id = p_run_id AND contact_id = p_contact AND time_zone IS NOT NULL),
        (SELECT time_zones FROM contacts WHERE id = p_contact),
        '{}');
$$;

-- Whether a call may begin at that moment: in each of the zones the local clock shows a time inside a window. The same
-- as operator/plan/hours.py; there is nothing more to changes of clocks than what the local clock shows.
CREATE FUNCTION hours_open(p_hours jsonb, p_callee text[], p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_zone text;
    v_local timestamp;
BEGIN
    IF p_hours IS NULL THEN
        RETURN true;
    ELSIF (p_hours->>'notAfter')::timestamptz <= p_now THEN
        RETURN false;
    ELSIF jsonb_array_length(p_hours->'windows') = 0 THEN
        RETURN true;
    ELSIF p_hours->>'zone' IS NOT NULL THEN
        p_callee := ARRAY[p_hours->>'zone'];
    ELSIF COALESCE(cardinality(p_callee), 0) = 0 THEN
        RETURN false;
    END IF;
    FOREACH v_zone IN ARRAY p_callee LOOP
        v_local := p_now AT TIME ZONE v_zone;
        IF NOT EXISTS (
            SELECT FROM jsonb_to_recordset(p_hours->'windows') AS w (days integer[], "from" integer, "to" integer)
            WHERE extract(isodow FROM v_local) = ANY (w.days)
                AND v_local >= date_trunc('day', v_local) + make_interval(mins => w."from")
                AND v_local < date_trunc('day', v_local) + make_interval(mins => w."to")) THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
EXCEPTION WHEN invalid_parameter_value THEN
    RETURN false;  -- a zone that this server does not know
END $$;
REVOKE EXECUTE ON FUNCTION callee_zones(text, text, text, uuid), hours_open(jsonb, text[], timestamptz) FROM PUBLIC;

-- Judges a batch and grants what may be called, in the order of numbers, whatever the money says: that comes next, in
-- the same transaction. `terms` is what items have in common, said once; `scripts` are those that may be new here.
CREATE OR REPLACE FUNCTION hold_grant(p_epoch bigint, p_batch jsonb) RETURNS hold_try[] LANGUAGE plpgsql AS $$
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
            WHEN k.hours IS NOT NULL
                AND NOT hours_open(k.hours, callee_zones(t.namespace, t.campaign, t.run_id, i.contact_id), v_now)
                THEN jsonb_build_object('result', 'OutsideCallingHours')
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
