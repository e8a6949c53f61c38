-- Batches are remembered as a whole, and host ids compared by their bytes as all names and text ids are (0003): pages of
-- hosts are joined outside of the database. What is not said here is as in 0005. Source: MECHANICS B6, E4.

ALTER TABLE host ALTER COLUMN id TYPE text COLLATE "C";
ALTER TABLE claim ALTER COLUMN host_id TYPE text COLLATE "C";
ALTER TABLE lease ALTER COLUMN host_id TYPE text COLLATE "C";
-- What is written is put in order before it locks: in that of the rows.
ALTER TYPE host_write ALTER ATTRIBUTE id TYPE text COLLATE "C";
ALTER TYPE claim_write ALTER ATTRIBUTE host_id TYPE text COLLATE "C";

-- The creates of a batch have a row each, by their place. Of batches that were mixed the earliest counts.
INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id, operation_id, created_at)
SELECT DISTINCT ON (project_id, caller, request_id)
       project_id, caller, 'BatchCreateInstances', request_id, fingerprint, '', '', created_at
  FROM request WHERE method LIKE 'BatchCreateInstances#%'
 ORDER BY project_id, caller, request_id, created_at, method;

DROP FUNCTION check_items, commit_items;

-- Items of a batch under whose request id another batch has made something, or may with an earlier item of this commit.
-- Creates of one project wait for each other at its row, so what is found here holds until the commit.
CREATE FUNCTION refused_batches(batches request_write[]) RETURNS SETOF verdict LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY SELECT b.item, 'REQUEST_ID_REUSED', NULL, NULL, NULL::bigint[], NULL::bytea
      FROM unnest(batches) b JOIN request r USING (project_id, caller, method, request_id)
     WHERE r.fingerprint <> b.fingerprint
    UNION ALL
    SELECT b.item, 'STALE', NULL, NULL, NULL::bigint[], NULL::bytea
      FROM (SELECT item, fingerprint, first_value(fingerprint) OVER (
                       PARTITION BY project_id, caller, method, request_id ORDER BY item) AS first_fingerprint
              FROM unnest(batches)) b
     WHERE b.fingerprint <> b.first_fingerprint;
END $$;

-- Remembers the batches of which something is made now for the first time. Where another has the request id, this must fail.
CREATE FUNCTION write_batches(batches request_write[], refused integer[]) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO request (project_id, caller, method, request_id, fingerprint, resource_id, operation_id)
    SELECT DISTINCT b.project_id, b.caller, b.method, b.request_id, b.fingerprint, '', ''
      FROM unnest(batches) b
     WHERE b.item <> ALL (refused)
       AND NOT EXISTS (SELECT FROM request r
                        WHERE r.project_id = b.project_id AND r.caller = b.caller AND r.method = b.method
                          AND r.request_id = b.request_id AND r.fingerprint = b.fingerprint);
END $$;

-- batches: per item of a batch the request of the whole batch. usual: the cloud's limits for projects without their own; of
-- instances, vCPUs, MiB, GiB; -1 is none.
CREATE FUNCTION commit_items(
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
            SELECT host_id FROM unnest(claims) WHERE change IN (1, 3) AND item <> ALL (refused)
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

-- What commit_items would answer: everything that it did is undone.
CREATE FUNCTION check_items(
    requests request_write[], instances instance_write[], operations operation_write[], claims claim_write[],
    hosts host_write[], entries catalog_write[], projects project_write[], shares project_share[],
    batches request_write[], usual bigint[],
    OUT verdicts verdict[], OUT changes changed[]
) LANGUAGE plpgsql AS $$
BEGIN
    SELECT c.verdicts, c.changes INTO verdicts, changes
      FROM commit_items(requests, instances, operations, claims, hosts, entries, projects, shares, batches, usual) c;
    RAISE EXCEPTION USING ERRCODE = 'ST001';
EXCEPTION WHEN SQLSTATE 'ST001' THEN
    RETURN;
END $$;
