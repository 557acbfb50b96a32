-- Seeing what the index is and does.

CREATE FUNCTION winnow_simd() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_simd() IS 'instruction set that winnow uses on this machine';

CREATE FUNCTION winnow_last_scan(OUT counter text, OUT value bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION winnow_last_scan() IS 'what the last scan of a winnow index in this session did';

-- Counted while others may write: the numbers belong to slightly different moments.
--
--	lists, rows, smallest_list, largest_list: of the leaves; rows are those that VACUUM has not taken out, dead or not, since
--		only the table knows which are dead (pg_stat_user_tables.n_dead_tup estimates it)
--	fill: rows, as a share of what the lists' pages have room for
--	freed_slots: places of rows that VACUUM has taken out, which the next rows of the same lists take
--	tight_summaries: the share of nodes below the root of which the parent's summary of the filter columns says no more than
--		the node's own rows do.  Deletes and updates lower it, by VACUUM it rises; lists that are not tight may be read in vain.
--	pages: all; unused_pages: of them, not in the tree; free_pages: of those, such as the next new node can have.  The others
--		are of nodes that have been replaced, by splits for the most part, and wait for VACUUM, or for snapshots to end.
--	fresh_lists, fresh_pages: about what REINDEX would make of these rows.  A search reads lists, in number between the 0.3th
--		and the first power of how many there are.
--	effective_dimension, tolerance: what the index was calibrated to; the tolerance is that of the session's winnow.recall for 10 rows
CREATE FUNCTION winnow_index_info(
		index regclass,
		OUT format_version integer,
		OUT metric text,
		OUT dimensions integer,
		OUT attributes integer,
		OUT list_size integer,
		OUT bits integer,
		OUT levels integer,
		OUT inner_nodes bigint,
		OUT lists bigint,
		OUT rows bigint,
		OUT smallest_list bigint,
		OUT largest_list bigint,
		OUT fill double precision,
		OUT freed_slots bigint,
		OUT tight_summaries double precision,
		OUT pages bigint,
		OUT unused_pages bigint,
		OUT free_pages bigint,
		OUT fresh_lists bigint,
		OUT fresh_pages bigint,
		OUT effective_dimension real,
		OUT tolerance double precision)
	RETURNS record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_index_info(regclass) IS 'shape, size and state of a winnow index';

-- It reads any row of the table, whoever calls it: whoever may do so grants it.
CREATE FUNCTION winnow_check(index regclass, heapallindexed boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION winnow_check(regclass, boolean) IS
	'error if a winnow index is damaged, or does not agree with its table';
REVOKE EXECUTE ON FUNCTION winnow_check(regclass, boolean) FROM PUBLIC;
