/*
 * explain.c
 *		What a scan did, in EXPLAIN ANALYZE (from PostgreSQL 18 on).
 */
#include "postgres.h"

#include "search.h"

#include "access/genam.h"
#include "nodes/execnodes.h"

#ifdef WINNOW_HAVE_EXPLAIN_HOOK

#include "commands/explain.h"
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#include "nodes/makefuncs.h"
#include "utils/ruleutils.h"

static explain_per_node_hook_type previous_hook = NULL;

static void
explain_scan(const WinnowScanCounters *counters, ExplainState *es)
{
	if (es->format == EXPLAIN_FORMAT_TEXT)
	{
		char	   *lists = psprintf(UINT64_FORMAT " probed, " UINT64_FORMAT " pruned, " UINT64_FORMAT " inner nodes read",
									 counters->lists_probed, counters->lists_pruned,
									 counters->inner_nodes);
		char	   *rows = psprintf(UINT64_FORMAT " tested, " UINT64_FORMAT " passed, " UINT64_FORMAT " reranked",
									counters->rows_tested, counters->rows_passed,
									counters->reranked);

		ExplainPropertyText("Lists", lists, es);
		ExplainPropertyText("Rows", rows, es);
		if (counters->rounds > counters->searches)
			ExplainPropertyUInteger("Search Rounds", NULL, counters->rounds, es);
		return;
	}
	ExplainPropertyUInteger("Inner Nodes Read", NULL, counters->inner_nodes, es);
	ExplainPropertyUInteger("Lists Pruned", NULL, counters->lists_pruned, es);
	ExplainPropertyUInteger("Lists Probed", NULL, counters->lists_probed, es);
	ExplainPropertyUInteger("Rows Tested", NULL, counters->rows_tested, es);
	ExplainPropertyUInteger("Rows Passed", NULL, counters->rows_passed, es);
	ExplainPropertyUInteger("Codes Estimated", NULL, counters->codes_estimated, es);
	ExplainPropertyUInteger("Codes Refined", NULL, counters->refined, es);
	ExplainPropertyUInteger("Rows Reranked", NULL, counters->reranked, es);
	ExplainPropertyUInteger("Search Rounds", NULL, counters->rounds, es);
}

/* Of the Filter, what the index has tested too */
static void
explain_conditions(Plan *plan, List *conditions, List *ancestors, ExplainState *es)
{
	List	   *context;

	if (conditions == NIL)
		return;
	context = set_deparse_context_plan(es->deparse_cxt, plan, ancestors);
	ExplainPropertyText("Index Filter",
						deparse_expression((Node *) make_ands_explicit(conditions), context,
										   es->verbose, false),
						es);
}

/* explain_per_node_hook */
static void
explain_node(PlanState *planstate, List *ancestors, const char *relationship,
			 const char *plan_name, ExplainState *es)
{
	if (previous_hook)
		previous_hook(planstate, ancestors, relationship, plan_name, es);
	if (es->analyze && IsA(planstate, IndexScanState))
	{
		IndexScanDesc scan = ((IndexScanState *) planstate)->iss_ScanDesc;
		const WinnowScanCounters *counters = scan ? winnow_scan_counters(scan) : NULL;

		if (counters != NULL && counters->searches > 0)
		{
			explain_conditions(planstate->plan, winnow_scan_conditions(scan), ancestors, es);
			explain_scan(counters, es);
		}
	}
}

void
winnow_explain_init(void)
{
	previous_hook = explain_per_node_hook;
	explain_per_node_hook = explain_node;
}

#else

void
winnow_explain_init(void)
{
}

#endif
