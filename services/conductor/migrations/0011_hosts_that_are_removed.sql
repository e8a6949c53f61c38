-- Hosts that are removed, as the functions of 0005 to 0009 did not have them: they have no room, no guests to condemn, and
-- their last agent is over, as one that is fenced. Source: MECHANICS C5, C6, D3.

UPDATE host SET fenced = incarnation WHERE deleted;

-- When the word was given: the audit tells of what is there long after it. Source: MECHANICS C7.
ALTER TABLE claim ADD COLUMN discarded_at timestamptz;
UPDATE claim SET discarded_at = now() WHERE discard;

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
        -- Nobody condemns what is claimed, nor what was on a host that is removed.
        SELECT w.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
          FROM unnest(claims) w LEFT JOIN claim c ON c.instance_id = w.instance_id AND c.epoch = w.epoch
          LEFT JOIN host h ON h.id = w.host_id
         WHERE w.change = 5 AND (c.epoch IS NOT NULL OR h.deleted)
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

-- Claims that do not fit beside the claims before them: per host the first such, and all after it that would not fit in
-- its place either. Called again without these until all fit; the result is that of taking the claims one by one.
CREATE OR REPLACE FUNCTION roomless_items(claims claim_write[], refused integer[]) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
    WITH asked AS (
        SELECT w.*,
               coalesce(h.target_vcpus - h.used_vcpus, -1) AS room_vcpus,
               coalesce(h.target_memory_mib - h.used_memory_mib, -1) AS room_memory_mib,
               coalesce(h.target_disk_gib - h.used_disk_gib, -1) AS room_disk_gib,
               sum(w.vcpus) OVER so_far - w.vcpus AS before_vcpus,
               sum(w.memory_mib) OVER so_far - w.memory_mib AS before_memory_mib,
               sum(w.disk_gib) OVER so_far - w.disk_gib AS before_disk_gib
          FROM unnest(claims) w LEFT JOIN host h ON h.id = w.host_id AND NOT h.deleted
         WHERE w.change = 1 AND w.item <> ALL (refused)
        WINDOW so_far AS (PARTITION BY w.host_id ORDER BY w.item)
    ), first_too_much AS (
        SELECT DISTINCT ON (host_id) * FROM asked
         WHERE before_vcpus + vcpus > room_vcpus
            OR before_memory_mib + memory_mib > room_memory_mib
            OR before_disk_gib + disk_gib > room_disk_gib
         ORDER BY host_id, item
    )
    SELECT a.item, 'NO_ROOM', NULL::text, NULL::text, NULL::bigint[], NULL::bytea
      FROM asked a JOIN first_too_much f ON f.host_id = a.host_id AND a.item >= f.item
     WHERE f.before_vcpus + a.vcpus > a.room_vcpus
        OR f.before_memory_mib + a.memory_mib > a.room_memory_mib
        OR f.before_disk_gib + a.disk_gib > a.room_disk_gib;
END $$;

-- As 0008 has patched it, written out. batches: per item of a batch the request of the whole batch. usual: the cloud's limits
-- for projects without their own; of instances, vCPUs, MiB, GiB; -1 is none.
CREATE OR REPLACE FUNCTION commit_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[],
    batches request_write[], usual bigint[],
    OUT verdicts verdict[], OUT changes changed[]
) LANGUAGE plpgsql AS $$
DECLARE
    refused integer[] := '{}';
    overdrawn text[];
    too_much verdict[];
    acts smallint[] := '{}';
    touched text[] := '{}';
    counts bigint[];
    total bigint;
    first bigint;
BEGIN
    IF cardinality(shares) > 0 THEN
        overdrawn := add_shares(shares, usual);
    END IF;
    IF cardinality(claims) > 0 THEN
        acts := ARRAY(SELECT DISTINCT change FROM unnest(claims));
    END IF;
    PERFORM lock_rows(instances, operations, claims, hosts, entries);
    verdicts := coalesce(
        (SELECT array_agg(v)
           FROM refused_items(requests, instances, operations, claims, hosts, entries, projects, shares) v),
        ARRAY[]::verdict[]);
    IF cardinality(batches) > 0 THEN
        verdicts := verdicts || ARRAY(SELECT v FROM refused_batches(batches) v);
    END IF;
    LOOP
        IF cardinality(verdicts) > 0 THEN
            refused := ARRAY(SELECT DISTINCT v.item FROM unnest(verdicts) v);
        END IF;
        too_much := '{}';
        IF overdrawn IS NOT NULL THEN
            too_much := ARRAY(SELECT v FROM overdrawn_items(instances, refused, shares, overdrawn, usual) v);
        END IF;
        -- What is refused for its quota must not take room from others: room is looked at when quotas are settled.
        IF cardinality(too_much) = 0 AND 1 = ANY (acts) THEN
            too_much := ARRAY(SELECT v FROM roomless_items(claims, refused) v);
        END IF;
        EXIT WHEN cardinality(too_much) = 0;
        verdicts := verdicts || too_much;
    END LOOP;

    IF cardinality(claims) > 0 OR cardinality(hosts) > 0 THEN
        touched := ARRAY(
            SELECT host_id FROM unnest(claims) WHERE change IN (1, 3, 5) AND item <> ALL (refused)
            UNION SELECT id FROM unnest(hosts) WHERE item <> ALL (refused) ORDER BY 1);
    END IF;
    IF cardinality(refused) = 0 THEN
        counts := ARRAY[cardinality(instances), cardinality(operations), cardinality(entries), cardinality(touched),
                        cardinality(projects)];
    ELSE
        counts := ARRAY[
            (SELECT count(*) FROM unnest(instances) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(operations) WHERE item <> ALL (refused)),
            (SELECT count(*) FROM unnest(entries) WHERE item <> ALL (refused)),
            cardinality(touched),
            (SELECT count(*) FROM unnest(projects) WHERE item <> ALL (refused))];
    END IF;
    total := counts[1] + counts[2] + counts[3] + counts[4] + counts[5];
    IF total > 0 THEN
        UPDATE counter SET revision = counter.revision + total RETURNING counter.revision - total INTO first;
    END IF;

    changes := ARRAY[]::changed[];
    IF cardinality(requests) > 0 THEN
        INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id, operation_id)
        SELECT project_id, caller, method, request_id, fingerprint, resource_id, operation_id
          FROM unnest(requests) WHERE item <> ALL (refused);
    END IF;
    IF cardinality(batches) > 0 THEN
        PERFORM write_batches(batches, refused);
    END IF;
    IF cardinality(shares) > 0 THEN
        IF cardinality(refused) > 0 OR EXISTS (SELECT FROM unnest(instances) WHERE deleted) THEN
            PERFORM release_shares(instances, refused);
        END IF;
    END IF;
    IF counts[1] > 0 THEN
        changes := changes || write_instances(instances, refused, first);
    END IF;
    IF counts[2] > 0 THEN
        changes := changes || write_operations(operations, refused, first + counts[1]);
    END IF;
    IF counts[3] > 0 THEN
        changes := changes || write_catalog(entries, refused, first + counts[1] + counts[2]);
    END IF;
    IF counts[4] > 0 THEN
        changes := changes || write_hosts(hosts, claims, refused, touched, first + counts[1] + counts[2] + counts[3]);
    END IF;
    IF counts[5] > 0 THEN
        changes := changes || write_projects(projects, refused, first + counts[1] + counts[2] + counts[3] + counts[4]);
    END IF;
    IF cardinality(claims) > 0 THEN
        PERFORM write_claims(claims, refused, acts);
    END IF;
END $$;

-- Keeps one report, unless a newer one is kept or the incarnation is not the live one; whether it was the live one's.
CREATE OR REPLACE FUNCTION keep_inventory(
    of_host text, of_incarnation bigint, of_number bigint, seen_revision bigint, short boolean,
    instance_ids uuid[], epochs bigint[], generations bigint[], powers smallint[]
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM host WHERE id = of_host AND incarnation = of_incarnation AND fenced <> of_incarnation;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    INSERT INTO inventory AS i (host_id, incarnation, number, as_of_revision, cut_short)
    VALUES (of_host, of_incarnation, of_number, seen_revision, short)
        ON CONFLICT (host_id) DO UPDATE SET
           incarnation = excluded.incarnation, number = excluded.number, as_of_revision = excluded.as_of_revision,
           cut_short = excluded.cut_short, reported_at = excluded.reported_at
     WHERE excluded.number = 0 OR i.incarnation <> excluded.incarnation OR i.number < excluded.number;
    IF NOT FOUND THEN
        RETURN true;
    END IF;
    WITH said AS (
        SELECT DISTINCT ON (instance_id, epoch) * FROM unnest(instance_ids, epochs, generations, powers)
            AS s (instance_id, epoch, applied_generation, power)
    ), gone AS (
        DELETE FROM guest g WHERE g.host_id = of_host
           AND NOT EXISTS (SELECT FROM said s WHERE s.instance_id = g.instance_id AND s.epoch = g.epoch)
    )
    INSERT INTO guest AS g (host_id, instance_id, epoch, applied_generation, power)
    SELECT of_host, s.instance_id, s.epoch, s.applied_generation, s.power FROM said s
     ORDER BY s.instance_id, s.epoch
        ON CONFLICT (host_id, instance_id, epoch) DO UPDATE SET
           applied_generation = excluded.applied_generation, power = excluded.power
     WHERE (g.applied_generation, g.power) IS DISTINCT FROM (excluded.applied_generation, excluded.power);
    RETURN true;
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
        UPDATE claim c SET role = w.role, discard = c.discard OR w.discard,
               discarded_at = CASE WHEN w.discard THEN coalesce(c.discarded_at, now()) ELSE c.discarded_at END,
               wanted_revision = (SELECT revision FROM counter)
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
        INSERT INTO claim (instance_id, epoch, host_id, role, discard, discarded_at, vcpus, memory_mib, disk_gib, wanted_revision)
        SELECT w.instance_id, w.epoch, w.host_id, w.role, true, now(), 0, 0, 0, n.revision
          FROM unnest(claims) w, counter n
         WHERE w.change = 5 AND w.item <> ALL (refused);
    END IF;
    IF 6 = ANY (acts) THEN
        UPDATE claim c SET discard = true, discarded_at = coalesce(c.discarded_at, now())
          FROM unnest(claims) w
         WHERE w.change = 6 AND w.item <> ALL (refused) AND c.instance_id = w.instance_id AND c.epoch = w.epoch;
    END IF;
END $$;
