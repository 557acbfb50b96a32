-- Seeing what the index is and does.

CREATE FUNCTION winnow_simd() RETURNS text
	AS 'MODULE_PATHNAME' LANGUAGE C STABLE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_simd() IS 'instruction set that winnow uses on this machine';

CREATE FUNCTION winnow_last_scan(OUT counter text, OUT value bigint) RETURNS SETOF record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL RESTRICTED;
COMMENT ON FUNCTION winnow_last_scan() IS 'what the last scan of a winnow index in this session did';

CREATE FUNCTION winnow_index_info(
		index regclass,
		OUT format_version integer,
		OUT metric text,
		OUT dimensions integer,
		OUT attributes integer,
		OUT list_size integer,
		OUT levels integer,
		OUT inner_nodes bigint,
		OUT lists bigint,
		OUT rows bigint,
		OUT smallest_list bigint,
		OUT largest_list bigint,
		OUT fill double precision,
		OUT pages bigint,
		OUT unused_pages bigint)
	RETURNS record
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL SAFE;
COMMENT ON FUNCTION winnow_index_info(regclass) IS 'shape and size of a winnow index';

-- It reads any row of the table, whoever calls it: whoever may do so grants it.
CREATE FUNCTION winnow_check(index regclass, heapallindexed boolean DEFAULT false) RETURNS void
	AS 'MODULE_PATHNAME' LANGUAGE C VOLATILE STRICT PARALLEL UNSAFE;
COMMENT ON FUNCTION winnow_check(regclass, boolean) IS
	'error if a winnow index is damaged, or does not agree with its table';
REVOKE EXECUTE ON FUNCTION winnow_check(regclass, boolean) FROM PUBLIC;
