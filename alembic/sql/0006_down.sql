DROP FUNCTION erase_contact(uuid);
CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
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
CREATE OR REPLACE FUNCTION dial_order(p_attempt uuid) RETURNS jsonb LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'attempt_id', a.id, 'number', a.number, 'namespace', a.namespace, 'campaign', a.campaign,
        'session', a.session_name, 'contact_id', a.contact_id, 'to', c.phone, 'from_', a.from_number,
        'contact_name', c.name, 'time_limit_s', a.time_limit_s, 'ring_timeout_s', a.ring_timeout_s,
        'max_queue_s', a.max_queue_s, 'account_sid', a.account_sid, 'api_base_url', k.api_base_url, 'public_url', k.public_url,
        'generation', a.owner_generation, 'script', a.script, 'time_zone', a.time_zone)
    FROM dial_attempts a JOIN contacts c ON c.id = a.contact_id
    JOIN carrier_accounts k ON k.account_sid = a.account_sid WHERE a.id = p_attempt;
$$;
DROP INDEX contacts_key_version;
ALTER TABLE contacts DROP CONSTRAINT contacts_key_or_erased;
ALTER TABLE contacts RENAME COLUMN phone TO sealed_phone;
ALTER TABLE contacts RENAME COLUMN name TO sealed_name;
ALTER TABLE contacts ADD COLUMN phone text, ADD COLUMN name text;
ALTER TABLE conversations RENAME COLUMN content TO sealed_content;
ALTER TABLE conversations ALTER COLUMN sealed_content DROP NOT NULL;
ALTER TABLE conversations ADD COLUMN content text;
ALTER TABLE calls RENAME COLUMN recording_url TO sealed_recording_url;
ALTER TABLE calls ADD COLUMN recording_url text;
