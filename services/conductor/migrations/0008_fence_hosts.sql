-- Claims whose disk may be erased, claims for guests that nobody claims, hosts that are fenced or removed, and who was heard.
-- What is not said here is as in 0005 and 0006. Source: MECHANICS C, D.

-- The recorded word that the guest's disk may be erased. Source: MECHANICS C7.
ALTER TABLE claim ADD COLUMN discard boolean NOT NULL DEFAULT false;
-- Until now claims were LEAVING only when their instance was deleted; of those on their way out the wish says so.
UPDATE claim c SET discard = true
 WHERE role = 3 OR EXISTS (SELECT FROM instance i WHERE i.id = c.instance_id AND (i.deleted OR i.task = 4));
-- edition: that of the host that the writer stands on, 0 if on none.
ALTER TYPE claim_write ADD ATTRIBUTE discard boolean, ADD ATTRIBUTE edition bigint;

-- fenced: the incarnation whose agent is known never to act again, 0 if none. Source: MECHANICS C5.
ALTER TABLE host ADD COLUMN fenced bigint NOT NULL DEFAULT 0, ADD COLUMN deleted boolean NOT NULL DEFAULT false;
ALTER TYPE host_write ADD ATTRIBUTE fenced bigint, ADD ATTRIBUTE deleted boolean;

-- Since when signs of life came without a long gap, and the last: of hosts (1) and of the roads from api (2). Nobody is
-- silent who could not be heard. Source: MECHANICS D5.
CREATE TABLE road (
    kind     smallint PRIMARY KEY,
    since_at timestamptz NOT NULL DEFAULT now(),
    last_at  timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
INSERT INTO road (kind) VALUES (1), (2);

-- Which items may not be committed, and why; room and quotas are decided apart. Of several items of one batch for the same
-- thing only the first may be committed; the others are STALE, and the next batch finds out what they are beside the first.
CREATE OR REPLACE FUNCTION refused_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[]
) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    IF cardinality(projects) > 0 THEN
        RETURN QUERY SELECT w.item,
               CASE WHEN w.place > 1 OR w.expected <> CASE WHEN p.deleted THEN 0 ELSE p.version END
                         OR w.deleted AND s.instances > 0 THEN 'STALE' ELSE 'NOT_EMPTY' END,
               w.id, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(projects)) w
          JOIN project p ON p.id = w.id
          JOIN unnest(shares) s ON s.id = w.id
         WHERE w.place > 1 OR w.expected <> CASE WHEN p.deleted THEN 0 ELSE p.version END
            OR w.deleted AND p.used_instances > 0;
    END IF;
    IF cardinality(instances) > 0 THEN
        RETURN QUERY SELECT l.item, CASE WHEN l.taken_by IS NULL THEN 'STALE' ELSE 'NAME_TAKEN' END, l.taken_by, NULL,
               NULL::bigint[], NULL::bytea
          FROM (SELECT w.item, w.expected, coalesce(i.version, 0) AS version, t.id::text AS taken_by, named.anew,
                       row_number() OVER (PARTITION BY w.id ORDER BY w.item) AS place,
                       row_number() OVER (PARTITION BY w.project_id, w.name, named.anew ORDER BY w.item) AS name_place
                  FROM unnest(instances) w
                  LEFT JOIN instance i ON i.id = w.id
                 CROSS JOIN LATERAL (SELECT i.id IS NULL OR i.name <> w.name AS anew) named
                  -- Asked only where a name is new: most writes keep theirs.
                  LEFT JOIN LATERAL (SELECT o.id FROM instance o
                                      WHERE named.anew AND o.project_id = w.project_id AND o.name = w.name
                                        AND NOT o.deleted AND o.id <> w.id LIMIT 1) t ON true) l
         WHERE l.version <> l.expected OR l.place > 1 OR l.taken_by IS NOT NULL OR l.anew AND l.name_place > 1;
    END IF;
    IF cardinality(operations) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(operations)) w
          LEFT JOIN operation o ON o.id = w.id
         WHERE coalesce(o.version, 0) <> w.expected OR w.place > 1;
    END IF;
    IF cardinality(claims) > 0 THEN
        RETURN QUERY SELECT w.item, 'NO_CLAIM', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(claims) w LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE w.change NOT IN (1, 5) AND (c.epoch IS NULL OR c.host_id <> w.host_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY item) AS place
                  FROM unnest(claims) WHERE change IN (2, 3, 5, 6)) w WHERE w.place > 1
        UNION ALL
        -- Nobody condemns what is claimed.
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(claims) w JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch WHERE w.change = 5
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(claims) w LEFT JOIN host h ON h.id = w.host_id
         WHERE w.edition > 0 AND w.edition IS DISTINCT FROM h.edition
        UNION ALL
        SELECT w.item, CASE WHEN h.incarnation <> w.incarnation OR h.fenced = w.incarnation THEN 'SUPERSEDED'
                           ELSE 'DUPLICATE' END, NULL, NULL,
               NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY instance_id, epoch ORDER BY sequence DESC, item) AS place
                  FROM unnest(claims) WHERE change = 4) w
          JOIN host h ON h.id = w.host_id
          LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE h.incarnation <> w.incarnation OR h.fenced = w.incarnation
            OR (c.incarnation, c.sequence) >= (w.incarnation, w.sequence) OR w.place > 1;
    END IF;
    IF cardinality(hosts) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY item) AS place FROM unnest(hosts)) w
          LEFT JOIN host h ON h.id = w.id
         WHERE coalesce(h.edition, 0) <> w.expected OR w.place > 1
        UNION ALL
        SELECT w.item, 'NOT_EMPTY', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(hosts) w WHERE w.deleted AND EXISTS (SELECT FROM claim c WHERE c.host_id = w.id AND c.role <> 3);
    END IF;
    IF cardinality(entries) > 0 THEN
        RETURN QUERY SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT *, row_number() OVER (PARTITION BY kind, id ORDER BY item) AS place FROM unnest(entries)) w
          LEFT JOIN catalog e ON e.kind = w.kind AND e.id = w.id
         WHERE coalesce(e.version, 0) <> w.expected OR w.place > 1
        UNION ALL
        SELECT w.item, 'NAME_TAKEN', e.id::text, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(entries) w
          JOIN catalog e ON e.kind = w.kind AND e.project_id = w.project_id AND e.name = w.name AND NOT e.deleted AND e.id <> w.id
         WHERE w.expected = 0
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY kind, project_id, name ORDER BY item) AS place
                  FROM unnest(entries) WHERE expected = 0) w WHERE w.place > 1;
    END IF;
    -- Last, since each statement sees what was committed before it began: who finds a twin's name must find its request.
    IF cardinality(requests) > 0 THEN
        RETURN QUERY SELECT w.item, CASE WHEN r.fingerprint = w.fingerprint THEN 'REPLAYED' ELSE 'REQUEST_ID_REUSED' END,
               r.resource_id, r.operation_id, NULL::bigint[], NULL::bytea
          FROM unnest(requests) w
          JOIN request r USING (project_id, caller, method, request_id)
        UNION ALL
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM (SELECT item, row_number() OVER (PARTITION BY project_id, caller, method, request_id ORDER BY item) AS place
                  FROM unnest(requests)) w WHERE w.place > 1;
    END IF;
END $$;

-- Writes claims; acts are the kinds of change among them. Epochs come from the instances, which are written before.
CREATE OR REPLACE FUNCTION write_claims(claims claim_write[], refused integer[], acts smallint[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF 1 = ANY (acts) THEN
        INSERT INTO claim (instance_id, epoch, host_id, role, vcpus, memory_mib, disk_gib, wanted_revision)
        SELECT w.instance_id, i.epoch, w.host_id, w.role, w.vcpus, w.memory_mib, w.disk_gib, i.epoch
          FROM unnest(claims) w JOIN instance i ON i.id = w.instance_id
         WHERE w.change = 1 AND w.item <> ALL (refused);
    END IF;
    IF 2 = ANY (acts) THEN
        UPDATE claim c SET role = w.role, discard = c.discard OR w.discard, wanted_revision = (SELECT revision FROM counter)
          FROM unnest(claims) w
         WHERE w.change = 2 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
    IF 3 = ANY (acts) THEN
        DELETE FROM claim c USING unnest(claims) w
         WHERE w.change = 3 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
    IF 4 = ANY (acts) THEN
        UPDATE claim c SET incarnation = w.incarnation, sequence = w.sequence
          FROM unnest(claims) w
         WHERE w.change = 4 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
    IF 5 = ANY (acts) THEN
        INSERT INTO claim (instance_id, epoch, host_id, role, discard, vcpus, memory_mib, disk_gib, wanted_revision)
        SELECT w.instance_id, w.epoch, w.host_id, w.role, true, 0, 0, 0, n.revision
          FROM unnest(claims) w, counter n
         WHERE w.change = 5 AND w.item <> ALL (refused);
    END IF;
    IF 6 = ANY (acts) THEN
        UPDATE claim c SET discard = true
          FROM unnest(claims) w
         WHERE w.change = 6 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
END $$;

-- Writes what hosts and admins say of hosts, and brings the ledger of every touched host up to its claims, before these are
-- written.
CREATE OR REPLACE FUNCTION write_hosts(
    hosts host_write[], claims claim_write[], refused integer[], touched text[], first bigint
) RETURNS changed[] LANGUAGE plpgsql AS $$
DECLARE
    changes changed[];
BEGIN
    IF cardinality(hosts) > 0 THEN
        -- To greet is to beat: a new incarnation is never found without its lease. In the order in which beats lock.
        INSERT INTO lease (host_id, incarnation, beat_at)
        SELECT w.id, w.incarnation, now() FROM unnest(hosts) w LEFT JOIN host h ON h.id = w.id
         WHERE w.item <> ALL (refused) AND w.incarnation IS DISTINCT FROM h.incarnation ORDER BY w.id
            ON CONFLICT (host_id) DO UPDATE SET incarnation = excluded.incarnation, beat_at = excluded.beat_at;
        -- What is left of a host that is removed goes with it: nobody is told of it any more.
        DELETE FROM claim c USING unnest(hosts) w WHERE w.deleted AND w.item <> ALL (refused) AND c.host_id = w.id;
        -- Not ON CONFLICT: of two that greet first for a host at once the second must fail, not follow.
        INSERT INTO host (id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
                          ceiling_vcpus, ceiling_memory_mib, ceiling_disk_gib, version, revision, body)
        SELECT id, machine_id, boot_id, state, incarnation, target_vcpus, target_memory_mib, target_disk_gib,
               target_vcpus, target_memory_mib, target_disk_gib, 0, 0, body
          FROM unnest(hosts) WHERE item <> ALL (refused) AND expected = 0;
        UPDATE host h SET
               machine_id = w.machine_id, boot_id = w.boot_id, state = w.state, incarnation = w.incarnation,
               edition = h.edition + 1, fenced = w.fenced, deleted = w.deleted,
               target_vcpus = w.target_vcpus, target_memory_mib = w.target_memory_mib, target_disk_gib = w.target_disk_gib,
               ceiling_vcpus = greatest(w.target_vcpus, h.used_vcpus),
               ceiling_memory_mib = greatest(w.target_memory_mib, h.used_memory_mib),
               ceiling_disk_gib = greatest(w.target_disk_gib, h.used_disk_gib)
          FROM unnest(hosts) w WHERE w.item <> ALL (refused) AND w.expected > 0 AND h.id = w.id;
    END IF;
    WITH asked AS (
        SELECT host_id, vcpus, memory_mib, disk_gib, 1 AS claim_count
          FROM unnest(claims) WHERE change IN (1, 5) AND item <> ALL (refused)
        UNION ALL
        SELECT h.id, -h.used_vcpus, -h.used_memory_mib, -h.used_disk_gib, -h.claim_count
          FROM unnest(hosts) w JOIN host h ON h.id = w.id WHERE w.deleted AND w.item <> ALL (refused)
        UNION ALL
        SELECT c.host_id, -c.vcpus, -c.memory_mib, -c.disk_gib, -1
          FROM unnest(claims) w JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
         WHERE w.change = 3 AND w.item <> ALL (refused)
    ), delta AS (
        SELECT t.id, t.place, coalesce(sum(a.vcpus), 0) AS vcpus, coalesce(sum(a.memory_mib), 0) AS memory_mib,
               coalesce(sum(a.disk_gib), 0) AS disk_gib, coalesce(sum(a.claim_count), 0) AS claim_count
          FROM unnest(touched) WITH ORDINALITY AS t (id, place)
          LEFT JOIN asked a ON a.host_id = t.id
         GROUP BY t.id, t.place
    ), written AS (
        UPDATE host h SET
               used_vcpus = h.used_vcpus + d.vcpus,
               used_memory_mib = h.used_memory_mib + d.memory_mib,
               used_disk_gib = h.used_disk_gib + d.disk_gib,
               -- A release or a smaller target lowers the ceiling; a claim never raises it.
               ceiling_vcpus = CASE WHEN d.vcpus > 0 THEN h.ceiling_vcpus
                                    ELSE greatest(h.target_vcpus, h.used_vcpus + d.vcpus) END,
               ceiling_memory_mib = CASE WHEN d.memory_mib > 0 THEN h.ceiling_memory_mib
                                         ELSE greatest(h.target_memory_mib, h.used_memory_mib + d.memory_mib) END,
               ceiling_disk_gib = CASE WHEN d.disk_gib > 0 THEN h.ceiling_disk_gib
                                       ELSE greatest(h.target_disk_gib, h.used_disk_gib + d.disk_gib) END,
               claim_count = h.claim_count + d.claim_count,
               version = h.version + 1,
               revision = first + d.place,
               body = coalesce(w.body, h.body)
          FROM delta d JOIN host o ON o.id = d.id
          LEFT JOIN unnest(hosts) w ON w.id = d.id AND w.item <> ALL (refused)
         WHERE h.id = d.id
        RETURNING h.*, o.body AS before, nullif(o.revision, 0) AS before_revision,
                  ARRAY[o.target_vcpus, o.target_memory_mib, o.target_disk_gib,
                        o.used_vcpus, o.used_memory_mib, o.used_disk_gib, o.claim_count] AS before_ledger
    ), logged AS (
        INSERT INTO change AS c (revision, kind, id, project_id, version, epoch, deleted, public, ledger, body,
                                 before, before_revision, before_epoch, before_ledger)
        SELECT w.revision, 5, w.id, '', w.version, 0, w.deleted, false,
               ARRAY[w.target_vcpus, w.target_memory_mib, w.target_disk_gib,
                     w.used_vcpus, w.used_memory_mib, w.used_disk_gib, w.claim_count], w.body,
               CASE WHEN w.version > 1 THEN w.before END, w.before_revision, CASE WHEN w.version > 1 THEN 0 END,
               CASE WHEN w.version > 1 THEN w.before_ledger END
          FROM written w
        RETURNING c.*
    )
    SELECT array_agg(ROW (5, id, version, revision, 0, body, ledger, before, before_revision, 0, before_ledger)::changed)
      INTO changes FROM logged;
    RETURN changes;
END $$;

-- A condemned guest is one more claim of its host. The newest commit_items is taken, whoever wrote it.
DO $$
DECLARE
    told text := pg_get_functiondef((SELECT oid FROM pg_proc WHERE proname = 'commit_items'));
BEGIN
    ASSERT strpos(told, 'change IN (1, 3)') > 0;
    EXECUTE replace(told, 'change IN (1, 3)', 'change IN (1, 3, 5)');
END $$;
