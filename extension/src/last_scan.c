/*
 * last_scan.c
 *		What this session's last scan did, from SQL.
 */
#include "postgres.h"

#include "search.h"

#include "funcapi.h"
#include "utils/builtins.h"

WinnowScanCounters winnow_last_counters;

/* Names of the counters, in the order of WinnowScanCounters */
static const char *const counter_names[] = {
	"searches", "inner_nodes", "lists_pruned", "lists_probed", "lists_needed",
	"rows_tested", "rows_needed", "rows_passed", "codes_estimated", "refined",
	"reranked", "invisible", "rechecked_out", "rounds", "restarts", "returned"
};

StaticAssertDecl(lengthof(counter_names) * sizeof(uint64) == sizeof(WinnowScanCounters),
				 "every counter has a name");

/* winnow_last_scan(): counters of the last scan of a winnow index */
PG_FUNCTION_INFO_V1(winnow_last_scan);
Datum
winnow_last_scan(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	const uint64 *counters = (const uint64 *) &winnow_last_counters;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < (int) lengthof(counter_names); i++)
	{
		Datum		values[2] = {CStringGetTextDatum(counter_names[i]),
		Int64GetDatum((int64) counters[i])};
		bool		nulls[2] = {false, false};

		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
	return (Datum) 0;
}
