-- bus_silent_for: the incarnation that said with its last beat that no command would reach it, 0 if none: a new one has said
-- nothing yet. Source: MECHANICS D5.
ALTER TABLE lease ADD COLUMN bus_silent_for bigint NOT NULL DEFAULT 0;
