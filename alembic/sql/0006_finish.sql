ALTER TABLE contacts DROP COLUMN plain_phone, DROP COLUMN plain_name;
ALTER TABLE contacts ADD CONSTRAINT contacts_key_or_erased CHECK
    ((wrapped_key IS NULL) = (erased_at IS NOT NULL) AND (wrapped_key IS NULL) = (key_version IS NULL)
     AND (wrapped_key IS NULL) = (phone IS NULL) AND (wrapped_key IS NOT NULL OR name IS NULL));
CREATE INDEX contacts_key_version ON contacts (key_version, id) WHERE key_version IS NOT NULL;
ALTER TABLE conversations DROP COLUMN plain_content;
ALTER TABLE conversations ALTER COLUMN content SET NOT NULL;
ALTER TABLE calls DROP COLUMN plain_recording_url;

-- Whoever was erased is not called again: their keyed hash stays, to know them by.
CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT stopped FROM installation WHERE id = 1) THEN 'Stopped'
        WHEN EXISTS (SELECT 1 FROM contacts WHERE id = p_contact AND erased_at IS NOT NULL) THEN 'DoNotCall'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;

-- Number and name leave the database as they are stored; who holds the namespace's key can read them.
CREATE OR REPLACE FUNCTION dial_order(p_attempt uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'attempt_id', a.id, 'number', a.number, 'namespace', a.namespace, 'campaign', a.campaign,
        'session', a.session_name, 'contact_id', a.contact_id, 'to', encode(c.phone, 'base64'),
        'from_', a.from_number, 'contact_name', encode(c.name, 'base64'), 'key_version', c.key_version,
        'wrapped_key', encode(c.wrapped_key, 'base64'), 'time_limit_s', a.time_limit_s,
        'ring_timeout_s', a.ring_timeout_s, 'max_queue_s', a.max_queue_s, 'account_sid', a.account_sid,
        'api_base_url', k.api_base_url, 'public_url', k.public_url,
        'generation', a.owner_generation, 'script', a.script, 'time_zone', a.time_zone)
    FROM dial_attempts a JOIN contacts c ON c.id = a.contact_id
    JOIN carrier_accounts k ON k.account_sid = a.account_sid WHERE a.id = p_attempt;
$$;

-- Erases a person: without the key nothing that was encrypted with it can be read, in backups neither. What was paid
-- and who was called stays, by opaque id. Answers erased, unknown, or open while a call to them is open.
CREATE FUNCTION erase_contact(p_contact uuid) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM contacts WHERE id = p_contact FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 'unknown';
    ELSIF EXISTS (SELECT 1 FROM dial_attempts WHERE contact_id = p_contact AND state IN ('granted', 'dialing', 'placed')) THEN
        RETURN 'open';
    END IF;
    UPDATE contacts SET phone = NULL, name = NULL, key_version = NULL, wrapped_key = NULL,
        erased_at = COALESCE(erased_at, clock_timestamp()) WHERE id = p_contact;
    UPDATE consents SET revoked_at = COALESCE(revoked_at, clock_timestamp()), source = '(erased ' || id || ')' WHERE contact_id = p_contact;
    UPDATE lead_scores SET fields = '{}', timeline = NULL WHERE contact_id = p_contact;
    UPDATE conversations t SET content = ''::bytea, metadata = '{}' FROM calls c WHERE c.id = t.call_id AND c.contact_id = p_contact;
    UPDATE calls SET recording_url = NULL WHERE contact_id = p_contact;
    UPDATE dial_attempts SET evidence = NULL WHERE contact_id = p_contact AND evidence IS NOT NULL;
    RETURN 'erased';
END $$;
REVOKE EXECUTE ON FUNCTION erase_contact(uuid) FROM PUBLIC;
