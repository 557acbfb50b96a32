/*
 * limit.c
 *		Which node of which plan is a scan for, and how many rows will it be
 *		asked for?
 *
 * An access method is not told.  A search for k rows is cheaper than one for
 * more, and rows of one search come in perfect order, so it is worth knowing:
 * while a plan runs, the scan looks for itself in that plan.  Where the number
 * of rows does not follow from the nodes above, the search starts small and
 * deepens.  Rows that are found then may be nearer than some that have been
 * returned, which nodes that rely on the order (Unique, a merge join) cannot bear.
 * The node also has the conditions that the planner left to the executor (condition.c).
 *
 * The library is loaded when the plan is made, so this needs no preloading.
 */
#include "postgres.h"

#include "search.h"

#include "access/parallel.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"

/* Plans that are running, innermost first */
typedef struct RunningPlan
{
	PlanState  *planstate;
	bool		to_end;			/* all its rows are asked for (what a leader asks of its
								 * workers is not known) */
	struct RunningPlan *outer;
} RunningPlan;

static RunningPlan *running = NULL;
static ExecutorRun_hook_type previous_run = NULL;

typedef struct ScanFinder
{
	const IndexScanDescData *scan;
	IndexScanState *node;		/* result */
	int64		wanted;			/* result: rows it will be asked for */
} ScanFinder;

/* What is asked of a node */
typedef struct Asked
{
	int64		rows;
	bool		in_order;		/* a node above would be wrong, not just unsorted, if they were not */
} Asked;

static bool find_scan(PlanState *node, ScanFinder *finder, Asked asked);

/* For the walker: nothing is known of what is asked of the node */
static bool
find_scan_anywhere(PlanState *node, void *finder)
{
	return find_scan(node, finder, (Asked){WINNOW_WANTED_UNKNOWN, false});
}

static bool
find_in_subplans(List *subplans, ScanFinder *finder)
{
	ListCell   *cell;

	foreach(cell, subplans)
	{
		if (find_scan_anywhere(((SubPlanState *) lfirst(cell))->planstate, finder))
			return true;
	}
	return false;
}

static bool
find_in_array(PlanState **nodes, int count, ScanFinder *finder, Asked asked)
{
	for (int i = 0; i < count; i++)
	{
		if (find_scan(nodes[i], finder, asked))
			return true;
	}
	return false;
}

/* Of one row more than what is asked of a node: where a group of peers ends */
static int64
and_one_more(int64 wanted)
{
	return wanted == WINNOW_WANTED_UNKNOWN || wanted == WINNOW_WANTED_ALL ? wanted : wanted + 1;
}

/* What a Limit asks for */
static int64
limit_wanted(const LimitState *limit, int64 wanted)
{
	int64		rows = limit->noCount ? wanted : limit->count;

	if (rows == WINNOW_WANTED_UNKNOWN || rows == WINNOW_WANTED_ALL)
		return rows;
	rows = rows < WINNOW_WANTED_ALL - limit->offset ? rows + limit->offset : WINNOW_WANTED_ALL;
	return limit->limitOption == LIMIT_OPTION_WITH_TIES ? and_one_more(rows) : rows;
}

/*
 * The scan's node has been found.  If it cannot be known beforehand how many rows must be found, as
 * the executor drops some of them, and the order is relied on, all rows are: those come sorted.
 */
static bool
found_scan(IndexScanState *node, ScanFinder *finder, Asked asked)
{
	finder->node = node;
	finder->wanted = asked.rows;
	if (asked.in_order && (asked.rows == WINNOW_WANTED_UNKNOWN ||
						   (node->ss.ps.plan->qual != NIL && !winnow_tests_rows(node))))
		finder->wanted = WINNOW_WANTED_ALL;
	return true;
}

/* Below a node that hands on the rows of its child, but for some */
static Asked
below_filter(const PlanState *node, Asked asked)
{
	if (asked.in_order && asked.rows != WINNOW_WANTED_ALL &&
		(node->plan->qual != NIL || IsA(node, LockRowsState)))
		asked.rows = WINNOW_WANTED_UNKNOWN;
	return asked;
}

/*
 * Look for the scan at and below a node that is asked for so many rows.  Only
 * what is below nodes that hand rows on one by one, or that read all that there
 * is, is known to be asked for as many.
 */
static bool
find_scan(PlanState *node, ScanFinder *finder, Asked asked)
{
	const Asked all_in_order = {WINNOW_WANTED_ALL, true};
	Asked		all_or_unknown = asked;
	Asked		below = asked;
	bool		found = false;

	if (node == NULL)
		return false;
	if (asked.rows != WINNOW_WANTED_ALL)
		all_or_unknown.rows = WINNOW_WANTED_UNKNOWN;
	switch (nodeTag(node))
	{
		case T_IndexScanState:
			if (((IndexScanState *) node)->iss_ScanDesc == finder->scan)
				return found_scan((IndexScanState *) node, finder, asked);
			break;
		case T_LimitState:
			below.rows = limit_wanted((LimitState *) node, asked.rows);
			found = find_scan(outerPlanState(node), finder, below);
			break;
		case T_LockRowsState:
		case T_ResultState:
			found = find_scan(outerPlanState(node), finder, below_filter(node, asked));
			break;
		case T_SubqueryScanState:
			found = find_scan(((SubqueryScanState *) node)->subplan, finder, below_filter(node, asked));
			break;
		case T_CteScanState:
			/* otherwise it is found as the plan of the CTE, which several scans may share */
			found = asked.in_order &&
				find_scan(((CteScanState *) node)->cteplanstate, finder, all_or_unknown);
			break;
		case T_WindowAggState:
			/* it stops where its run condition fails */
			if (asked.rows == WINNOW_WANTED_ALL && ((WindowAgg *) node->plan)->runCondition != NIL)
				below.rows = WINNOW_WANTED_UNKNOWN;
			below.rows = and_one_more(below.rows);
			found = find_scan(outerPlanState(node), finder, below);
			break;
		case T_IncrementalSortState:
			below.rows = and_one_more(asked.rows);
			found = find_scan(outerPlanState(node), finder, below);
			break;
		case T_SortState:
			found = find_scan(outerPlanState(node), finder, (Asked){WINNOW_WANTED_ALL, false});
			break;
		case T_AggState:
		case T_GroupState:
		case T_UniqueState:
		case T_SetOpState:
		case T_MergeJoinState:
			/* these read all there is, or need it in perfect order */
			found = find_scan(outerPlanState(node), finder, all_in_order) ||
				find_scan(innerPlanState(node), finder, all_in_order);
			break;
		case T_MaterialState:
		case T_ProjectSetState:
			found = find_scan(outerPlanState(node), finder, all_or_unknown);
			break;
		case T_ModifyTableState:
		case T_NestLoopState:
			/* what is on the inner side may be asked for less */
			found = find_scan(outerPlanState(node), finder, all_or_unknown) ||
				find_scan_anywhere(innerPlanState(node), finder);
			break;
		case T_MergeAppendState:
			found = find_in_array(((MergeAppendState *) node)->mergeplans,
								  ((MergeAppendState *) node)->ms_nplans, finder, asked);
			break;
		case T_AppendState:
			found = find_in_array(((AppendState *) node)->appendplans,
								  ((AppendState *) node)->as_nplans, finder, all_or_unknown);
			break;
		default:
			return planstate_tree_walker(node, find_scan_anywhere, finder);
	}
	return found || find_in_subplans(node->initPlan, finder) || find_in_subplans(node->subPlan, finder);
}

/*
 * The node of a running plan that a scan is for; NULL if it is not to be found.
 * wanted is the number of rows it will be asked for, if that is known.
 */
IndexScanState *
winnow_node_of(IndexScanDesc scan, int64 *wanted)
{
	ScanFinder	finder = {scan, NULL, WINNOW_WANTED_UNKNOWN};

	for (RunningPlan *plan = running; plan != NULL && finder.node == NULL; plan = plan->outer)
		find_scan(plan->planstate, &finder,
				  (Asked){plan->to_end ? WINNOW_WANTED_ALL : WINNOW_WANTED_UNKNOWN, false});
	*wanted = finder.wanted;
	return finder.node;
}

/* ExecutorRun_hook: know the plans that are running */
static void
limit_run(WINNOW_RUN_PARAMETERS)
{
	RunningPlan plan = {query->planstate, count == 0 && !IsParallelWorker(), running};

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
