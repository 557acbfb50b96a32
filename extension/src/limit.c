/*
 * limit.c
 *		How many rows will a scan be asked for?
 *
 * An access method is not told of the LIMIT above it.  A search for k rows is
 * cheaper than one for more, and rows of one search come in perfect order, so
 * it is worth knowing: while a plan runs, the scan looks for itself below a
 * Limit node of that plan.  Where nothing is found the search starts small and
 * deepens.
 *
 * The library is loaded when the plan is made, so this needs no preloading.
 */
#include "postgres.h"

#include "winnow.h"

#include "executor/executor.h"
#include "nodes/nodeFuncs.h"

/* Plans that are running, innermost first */
typedef struct RunningPlan
{
	PlanState  *planstate;
	struct RunningPlan *outer;
} RunningPlan;

static RunningPlan *running = NULL;
static ExecutorRun_hook_type previous_run = NULL;

/*
 * How many rows of its own the node above may ask from the scan; 0 if it is
 * not known, or the scan is not there.  Only nodes that hand rows on one by one
 * may be between: Limit over LockRows, Result, SubqueryScan or MergeAppend.
 */
static int64
limit_below(PlanState *node, const IndexScanDescData *scan, int64 limit)
{
	int64		found = 0;

	if (node == NULL)
		return 0;
	switch (nodeTag(node))
	{
		case T_IndexScanState:
			return ((IndexScanState *) node)->iss_ScanDesc == scan ? limit : 0;
		case T_LockRowsState:
		case T_ResultState:
			return limit_below(outerPlanState(node), scan, limit);
		case T_IncrementalSortState:
		case T_WindowAggState:

			/* they read one row more, to see where a group of peers ends */
			return limit_below(outerPlanState(node), scan, limit + 1);
		case T_SubqueryScanState:
			return limit_below(((SubqueryScanState *) node)->subplan, scan, limit);
		case T_MergeAppendState:
			{
				MergeAppendState *append = (MergeAppendState *) node;

				for (int i = 0; i < append->ms_nplans && found == 0; i++)
					found = limit_below(append->mergeplans[i], scan, limit);
				return found;
			}
		default:
			return 0;
	}
}

typedef struct LimitSearch
{
	const IndexScanDescData *scan;
	int64		limit;
} LimitSearch;

static bool
find_limit(PlanState *node, void *arg)
{
	LimitSearch *search = arg;

	if (IsA(node, LimitState))
	{
		LimitState *limit = (LimitState *) node;

		if (!limit->noCount && limit->count > 0)
			search->limit = limit_below(outerPlanState(node), search->scan,
										limit->count + limit->offset);
		if (search->limit > 0)
			return true;
	}
	return planstate_tree_walker(node, find_limit, arg);
}

/* The number of rows the scan will be asked for, if that is known; else 0 */
int64
winnow_limit_of(IndexScanDesc scan)
{
	LimitSearch search = {scan, 0};

	for (RunningPlan *plan = running; plan != NULL && search.limit == 0; plan = plan->outer)
		find_limit(plan->planstate, &search);
	return search.limit;
}

/* ExecutorRun_hook: know the plans that are running */
static void
limit_run(WINNOW_RUN_PARAMETERS)
{
	RunningPlan plan = {query->planstate, running};

	running = &plan;
	PG_TRY();
	{
		if (previous_run)
			previous_run(WINNOW_RUN_ARGUMENTS);
		else
			standard_ExecutorRun(WINNOW_RUN_ARGUMENTS);
	}
	PG_FINALLY();
	{
		running = plan.outer;
	}
	PG_END_TRY();
}

void
winnow_limit_init(void)
{
	previous_run = ExecutorRun_hook;
	ExecutorRun_hook = limit_run;
}
