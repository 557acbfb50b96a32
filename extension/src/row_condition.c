/*
 * row_condition.c
 *		The executor's conditions, tested on the rows that a search fetches.
 *
 * What the planner leaves to the executor and columns do not decide (condition.c)
 * takes the row.  A search has the row when it reranks it.  If it left the test to
 * the executor it would look for the nearest rows, of which too few might pass, and
 * go on looking, again and again; and it would compute the distances of rows that
 * do not pass, for which it may have to read long vectors.  So it tests them first,
 * as the executor would, with the plan node's own expression and context: in the
 * same order, which under row-level security is that of the policies.  The executor
 * tests the rows that come out all the same.
 */
#include "postgres.h"

#include "search.h"

#include "executor/executor.h"
#include "executor/instrument.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"

/*
 * May conditions be tested on a row twice, and on rows that will not come out?  Those
 * that cost more than two distances are better left to the executor, which tests few rows.
 */
bool
winnow_may_test(List *conditions, List *distances)
{
	QualCost	test;
	QualCost	distance;

	if (contain_volatile_functions((Node *) conditions) || contain_subplans((Node *) conditions))
		return false;
	cost_qual_eval(&test, conditions, NULL);
	cost_qual_eval(&distance, distances, NULL);
	return test.per_tuple <= 2 * distance.per_tuple;
}

/* Does a scan's node have conditions, and such? */
bool
winnow_tests_rows(const IndexScanState *node)
{
	const IndexScan *plan = (const IndexScan *) node->ss.ps.plan;

	return plan->scan.plan.qual != NIL && winnow_may_test(plan->scan.plan.qual, plan->indexorderbyorig);
}

/* Does the row in the slot, one of the node's table, pass the node's conditions? */
bool
winnow_row_passes(IndexScanState *node, TupleTableSlot *slot)
{
	ExprContext *context = node->ss.ps.ps_ExprContext;
	TupleTableSlot *before = context->ecxt_scantuple;
	bool		passes;

	/* the executor keeps nothing in the context while it waits for a row */
	ResetExprContext(context);
	context->ecxt_scantuple = slot;
	passes = ExecQual(node->ss.ps.qual, context);
	context->ecxt_scantuple = before;
	if (!passes)
		InstrCountFiltered1(node, 1);
	return passes;
}
