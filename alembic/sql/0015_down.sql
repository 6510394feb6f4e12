-- A release before knows no list.
DROP TRIGGER calls_keep_opt_out ON calls;
DROP FUNCTION keep_opt_out();
DROP FUNCTION do_not_call_set(text, text, boolean, text, text);
CREATE OR REPLACE FUNCTION gate(p_contact uuid, p_account_sid text) RETURNS TABLE (reason text) LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN (SELECT admission_closed()) THEN 'Stopped'
        WHEN EXISTS (SELECT 1 FROM contacts WHERE id = p_contact AND erased_at IS NOT NULL) THEN 'DoNotCall'
        WHEN NOT EXISTS (SELECT 1 FROM consents WHERE contact_id = p_contact AND revoked_at IS NULL
                         AND given_at <= clock_timestamp()) THEN 'NoConsent'
        -- Unknown accounts count as real: the gate fails closed.
        WHEN NOT COALESCE((SELECT simulated FROM carrier_accounts WHERE account_sid = p_account_sid), false)
             AND NOT EXISTS (SELECT 1 FROM dial_allowlist JOIN contacts c USING (number_hash) WHERE c.id = p_contact)
            THEN 'DoNotCall'
        END;
$$;
DROP TABLE do_not_call;
CREATE OR REPLACE FUNCTION erase_contact(p_contact uuid) RETURNS text LANGUAGE plpgsql AS $$
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
