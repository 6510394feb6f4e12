-- Numbers that nobody may call: in a namespace, or ('') in the whole installation. By their keyed hash, so that a person
-- who was erased, or is not known yet, is on it too. `source`: opt-out (said in a call), or manual.
CREATE TABLE IF NOT EXISTS do_not_call (
    number_hash text NOT NULL,
    namespace text NOT NULL,
    source text NOT NULL CHECK (source IN ('opt-out', 'manual')),
    attempt_id uuid,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (number_hash, namespace)
);

CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT admission_closed()) THEN 'Stopped'
        -- Erased, or on the list. The person is read once: every hold and every begin_dial asks this.
        WHEN EXISTS (SELECT 1 FROM contacts c WHERE c.id = p_contact AND (c.erased_at IS NOT NULL OR EXISTS (
                SELECT 1 FROM do_not_call d WHERE d.number_hash = c.number_hash AND d.namespace IN (c.namespace, ''))))
            THEN 'DoNotCall'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;

-- A wish takes effect in the transaction that stores it, whoever stores it.
CREATE OR REPLACE FUNCTION keep_opt_out() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, public, pg_temp AS $$
BEGIN
    INSERT INTO do_not_call (number_hash, namespace, source, attempt_id)
        SELECT number_hash, namespace, 'opt-out', NEW.id FROM contacts WHERE id = NEW.contact_id
        ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
-- Puts a number on the list, or takes it off, by somebody's word; answers whether that changed anything.
CREATE OR REPLACE FUNCTION do_not_call_set(p_namespace text, p_number_hash text, p_listed boolean, p_actor text, p_reason text)
RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_before do_not_call%ROWTYPE;
BEGIN
    SELECT * INTO v_before FROM do_not_call WHERE number_hash = p_number_hash AND namespace = p_namespace FOR UPDATE;
    IF p_listed = FOUND THEN
        RETURN false;
    ELSIF p_listed THEN
        INSERT INTO do_not_call (number_hash, namespace, source) VALUES (p_number_hash, p_namespace, 'manual')
            ON CONFLICT DO NOTHING;
    ELSE
        DELETE FROM do_not_call WHERE number_hash = p_number_hash AND namespace = p_namespace;
    END IF;
    INSERT INTO audit_log (actor, action, subject, reason, before, after) VALUES (p_actor,
        CASE WHEN p_listed THEN 'do-not-call.add' ELSE 'do-not-call.remove' END, p_namespace || '/' || p_number_hash,
        p_reason, CASE WHEN p_listed THEN '{}' ELSE to_jsonb(v_before) END, '{}');
    RETURN true;
END $$;

-- As it was, and told in the audit log: whoever restores an older database must erase the same people again.
CREATE OR REPLACE FUNCTION erase_contact(p_contact uuid) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    v_erased timestamptz;
BEGIN
    SELECT erased_at INTO v_erased FROM contacts WHERE id = p_contact FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF EXISTS (SELECT 1 FROM dial_attempts WHERE contact_id = p_contact AND state IN ('granted', 'dialing', 'placed')) THEN
        RETURN 'open';
    END IF;
    -- Attempts before calls, as whoever records how a call ended: evidence may come late.
    PERFORM 1 FROM dial_attempts WHERE contact_id = p_contact ORDER BY id FOR NO KEY UPDATE;
    UPDATE contacts SET phone = NULL, name = NULL, key_version = NULL, wrapped_key = NULL,
        erased_at = COALESCE(erased_at, clock_timestamp()) WHERE id = p_contact;
    UPDATE consents SET revoked_at = COALESCE(revoked_at, clock_timestamp()), source = '(erased ' || id || ')' WHERE contact_id = p_contact;
    UPDATE lead_scores SET fields = '{}', timeline = NULL WHERE contact_id = p_contact;
    UPDATE conversations t SET content = ''::bytea, metadata = '{}' FROM calls c WHERE c.id = t.call_id AND c.contact_id = p_contact;
    UPDATE calls SET recording_url = NULL WHERE contact_id = p_contact;
    UPDATE dial_attempts SET evidence = NULL WHERE contact_id = p_contact AND evidence IS NOT NULL;
    IF v_erased IS NULL THEN
        INSERT INTO audit_log (actor, action, subject, reason, before, after)
            VALUES (session_user, 'contact.erase', p_contact::text, 'they wished to be erased', '{}', '{}');
    END IF;
    RETURN 'erased';
END $$;
REVOKE EXECUTE ON FUNCTION keep_opt_out(), do_not_call_set(text, text, boolean, text, text) FROM PUBLIC;

-- Last, since calls wait for it: the earlier ones are read when this is committed (0015_earlier_calls.sql).
DROP TRIGGER IF EXISTS calls_keep_opt_out ON calls;
CREATE TRIGGER calls_keep_opt_out AFTER INSERT OR UPDATE OF disposition ON calls
    FOR EACH ROW WHEN (NEW.disposition = 'optedOut') EXECUTE FUNCTION keep_opt_out();
