-- What people decide about attempts whose truth nobody could find, and what the carrier's bill says otherwise than the
-- ledger. Both leave rows that nobody changes.

CREATE TABLE audit_log (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    -- Whom the database knows, whatever name was given.
    login text NOT NULL DEFAULT session_user,
    action text NOT NULL,
    subject text NOT NULL,
    reason text NOT NULL CHECK (length(reason) BETWEEN 1 AND 1000),
    before jsonb NOT NULL,
    after jsonb NOT NULL
);
CREATE INDEX audit_log_subject ON audit_log (subject);

CREATE FUNCTION audit_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only: nobody changes it';
END $$;
CREATE TRIGGER audit_log_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION audit_refuse_change();

-- Corrections are counted within an attempt; of every other kind an attempt has one entry an account.
ALTER TABLE ledger_entries
    ADD COLUMN number smallint NOT NULL DEFAULT 0,
    DROP CONSTRAINT ledger_entries_kind_check,
    ADD CONSTRAINT ledger_entries_kind_check CHECK (kind IN ('hold', 'release', 'settle', 'late', 'correction')),
    ADD CONSTRAINT ledger_entries_numbered CHECK ((kind = 'correction') = (number > 0)),
    ADD CONSTRAINT ledger_entries_correction CHECK (kind <> 'correction' OR held_micros = 0);
DROP INDEX ledger_entries_once;
CREATE UNIQUE INDEX ledger_entries_once ON ledger_entries (attempt_id, account_id, kind, number);

CREATE INDEX dial_attempts_begun ON dial_attempts (account_sid, begun_at) WHERE begun_at IS NOT NULL;
CREATE INDEX dial_attempts_unresolved ON dial_attempts (begun_at) WHERE end_status = 'unresolved';

-- A day (in UTC) of a carrier account, compared or to be compared with the carrier's list. next_at: when it is looked at
-- (again); NULL: never again.
CREATE TABLE carrier_reconciliations (
    account_sid text NOT NULL REFERENCES carrier_accounts (account_sid),
    day date NOT NULL,
    requested_at timestamptz NOT NULL,
    done_at timestamptz,
    next_at timestamptz,
    calls integer NOT NULL DEFAULT 0,
    open_calls integer NOT NULL DEFAULT 0,
    problem text,
    PRIMARY KEY (account_sid, day)
);
CREATE INDEX carrier_reconciliations_next ON carrier_reconciliations (next_at) WHERE next_at IS NOT NULL;

CREATE TABLE carrier_differences (
    id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
    account_sid text NOT NULL REFERENCES carrier_accounts (account_sid),
    day date NOT NULL,
    kind text NOT NULL CHECK (kind IN ('UnknownCall', 'MissingCall', 'Status', 'Duration', 'Price',
                                      'Unpriced', 'Currency')),
    call_sid text NOT NULL,
    attempt_id uuid REFERENCES dial_attempts (id),
    expected text NOT NULL DEFAULT '',
    found text NOT NULL DEFAULT '',
    -- A price's difference as it was posted; NULL: nothing was.
    delta_micros bigint,
    correction smallint NOT NULL DEFAULT 0,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX carrier_differences_once ON carrier_differences (call_sid, kind, expected, found, correction);
CREATE INDEX carrier_differences_day ON carrier_differences (day, account_sid);

-- Attempts without a person: what can be shown to whoever decides about them. `deadline_at`: by then the carrier has
-- ended the call whatever happened. `needs`: why somebody must decide, NULL: nobody must.
CREATE VIEW attempts_overview AS
SELECT o.*, CASE
        WHEN o.state IN ('dialing', 'placed') AND o.deadline_at < clock_timestamp() THEN 'Overdue'
        WHEN o.state IN ('ended', 'settled') AND o.end_status = 'unresolved'
            AND o.reason IS DISTINCT FROM 'LateEvidence' THEN 'Unresolved'
        WHEN o.state = 'ended' AND o.end_status = 'completed' AND o.duration_s IS NULL
            AND o.ended_at < clock_timestamp() - interval '10 minutes' THEN 'NoDuration'
    END AS needs
FROM (
    SELECT a.id, a.state, a.namespace, a.campaign, a.run_id, a.session_name, a.number, a.account_sid, a.call_sid,
        a.currency, CASE WHEN a.state IN ('revoked', 'settled') THEN 0 ELSE a.hold_micros END AS held_micros,
        a.time_limit_s, a.granted_at, a.begun_at, a.placed_at, a.answered_at, a.ended_at, a.end_status, a.reason,
        a.duration_s, a.lookups_empty, a.last_lookup_at,
        COALESCE(a.answered_at, COALESCE(a.placed_at, a.begun_at)
                 + make_interval(secs => a.max_queue_s + a.ring_timeout_s))
            + make_interval(secs => a.time_limit_s) + interval '5 minutes' AS deadline_at
    FROM dial_attempts a
) o;

CREATE FUNCTION attempt_facts(v dial_attempts) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
    SELECT jsonb_build_object('state', v.state, 'end_status', v.end_status, 'reason', v.reason,
        'call_sid', v.call_sid, 'duration_s', v.duration_s, 'counts', v.counts, 'hold_micros', v.hold_micros);
$$;

-- Why an attempt cannot be resolved as asked; NULL: it can be. The row is locked.
CREATE FUNCTION attempt_resolve_refusal(v dial_attempts, p_status text, p_duration_s integer, p_sid text)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_needs text;
BEGIN
    SELECT needs INTO v_needs FROM attempts_overview WHERE id = v.id;
    IF v_needs IS NULL THEN
        RETURN CASE WHEN v.state IN ('dialing', 'placed') THEN 'MayBeLive' ELSE 'NotNeeded' END;
    ELSIF p_sid IS NOT NULL AND v.call_sid IS NOT NULL AND p_sid <> v.call_sid THEN
        RETURN 'OtherCall';
    ELSIF p_sid IS NOT NULL AND EXISTS (SELECT 1 FROM dial_attempts WHERE call_sid = p_sid AND id <> v.id) THEN
        RETURN 'SidTaken';
    ELSIF v_needs = 'NoDuration' AND p_status <> 'completed' THEN
        RETURN 'KnownToBeCompleted';
    ELSIF p_status = 'notPlaced' AND v.call_sid IS NOT NULL THEN
        RETURN 'WasPlaced';
    ELSIF p_status = 'notPlaced' AND v.state = 'settled' THEN
        RETURN 'NothingHeld';
    ELSIF p_status = 'completed' AND COALESCE(p_duration_s, 0) < 1 THEN
        RETURN 'DurationMissing';
    ELSIF p_status <> 'completed' AND p_duration_s IS NOT NULL THEN
        RETURN 'DurationMeaningless';
    ELSIF p_duration_s > v.time_limit_s THEN
        RETURN 'DurationTooLong';
    END IF;
    RETURN NULL;
END $$;

-- A person's word about an attempt that needs one: through the protocol's own door where that takes it, with a row in
-- the audit log, in one transaction. The operator then settles as usual. Answers 'Resolved' or why nothing was changed.
CREATE FUNCTION attempt_resolve(p_attempt uuid, p_status text, p_duration_s integer, p_sid text, p_actor text,
                                p_reason text) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v dial_attempts%ROWTYPE;
    v_after dial_attempts%ROWTYPE;
    v_refusal text;
    v_evidence jsonb := jsonb_strip_nulls(jsonb_build_object('source', 'person', 'status', p_status,
        'call_sid', p_sid, 'duration_s', p_duration_s, 'at', clock_timestamp()));
BEGIN
    IF p_status NOT IN ('completed', 'failed', 'no-answer', 'notPlaced') THEN
        RAISE EXCEPTION '% is nothing that an attempt can be resolved as', p_status;
    END IF;
    SELECT * INTO v FROM dial_attempts WHERE id = p_attempt FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'UnknownAttempt';
    END IF;
    v_refusal := attempt_resolve_refusal(v, p_status, p_duration_s, p_sid);
    IF v_refusal IS NOT NULL THEN
        RETURN v_refusal;
    END IF;
    IF v.state = 'ended' AND (v.end_status = 'completed' OR p_status = 'notPlaced') THEN
        -- The two words that record_ended does not take: the duration of what is known to have been completed, and that
        -- an unresolved dial was none. Late evidence still posts against the latter.
        UPDATE dial_attempts SET end_status = p_status, duration_s = p_duration_s, evidence = v_evidence,
            call_sid = COALESCE(call_sid, p_sid) WHERE id = p_attempt;
        UPDATE calls SET status = p_status, duration = p_duration_s WHERE id = p_attempt;
    ELSIF NOT record_ended(p_attempt, v_evidence) THEN
        RAISE EXCEPTION 'attempt % does not take this evidence', p_attempt;
    END IF;
    -- Only the carrier's own refusal may be tried again at once: a person's counts as an attempt, and is the last one.
    UPDATE dial_attempts SET counts = true WHERE id = p_attempt AND NOT counts;
    SELECT * INTO v_after FROM dial_attempts WHERE id = p_attempt;
    INSERT INTO audit_log (actor, action, subject, reason, before, after)
        VALUES (p_actor, 'attempt.resolve', p_attempt::text, p_reason, attempt_facts(v), attempt_facts(v_after));
    RETURN 'Resolved';
END $$;

-- Posts the difference between the carrier's price of a settled call and what the ledger has for it, as new entries in
-- the same accounts, whatever has become of their windows. Asked again with the same price it posts nothing.
CREATE FUNCTION ledger_correct(p_epoch bigint, p_attempt uuid, p_day date, p_price_micros bigint) RETURNS jsonb
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

-- Asks the operator to compare a day now, for every carrier account that placed calls in the week until then. Answers
-- how many accounts that are.
CREATE FUNCTION reconciliation_request(p_day date, p_actor text, p_reason text) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    v_accounts integer;
BEGIN
    INSERT INTO carrier_reconciliations AS r (account_sid, day, requested_at, next_at)
        SELECT account_sid, p_day, clock_timestamp(), clock_timestamp() FROM carrier_accounts k
        WHERE EXISTS (SELECT 1 FROM dial_attempts a WHERE a.account_sid = k.account_sid
                      AND a.begun_at >= (p_day - 6)::timestamp AT TIME ZONE 'UTC'
                      AND a.begun_at < (p_day + 1)::timestamp AT TIME ZONE 'UTC')
        ON CONFLICT (account_sid, day) DO UPDATE SET requested_at = EXCLUDED.requested_at,
            next_at = EXCLUDED.next_at, problem = NULL;
    GET DIAGNOSTICS v_accounts = ROW_COUNT;
    IF v_accounts > 0 THEN
        INSERT INTO audit_log (actor, action, subject, reason, before, after) VALUES (p_actor, 'ledger.reconcile',
            p_day::text, p_reason, '{}', jsonb_build_object('accounts', v_accounts));
    END IF;
    RETURN v_accounts;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'callfleet_auditor') THEN
        CREATE ROLE callfleet_auditor NOLOGIN;
    END IF;
EXCEPTION
    WHEN duplicate_object OR unique_violation THEN
        NULL; -- made by another migration at the same moment
    WHEN insufficient_privilege THEN
        RAISE EXCEPTION 'this user may not create roles: let an administrator run CREATE ROLE callfleet_auditor NOLOGIN';
END $$;
REVOKE EXECUTE ON FUNCTION audit_refuse_change(), attempt_facts(dial_attempts),
    attempt_resolve_refusal(dial_attempts, text, integer, text),
    attempt_resolve(uuid, text, integer, text, text, text), ledger_correct(bigint, uuid, date, bigint),
    reconciliation_request(date, text, text) FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO callfleet_auditor;
GRANT SELECT ON alembic_version, attempts_overview, audit_log, carrier_reconciliations, carrier_differences
    TO callfleet_auditor;
GRANT EXECUTE ON FUNCTION attempt_resolve(uuid, text, integer, text, text, text),
    reconciliation_request(date, text, text) TO callfleet_auditor;
