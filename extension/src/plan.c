/*
 * plan.c
 *		Conditions that the planner of PostgreSQL 15 and 16 leaves out.
 *
 * Those versions assume that a list (column = ANY ...) on any but the first
 * column of an index breaks the order of the scan, as it would in a B-tree, so
 * they make a path that is either ordered or has the lists.  PostgreSQL 15
 * moreover matches boolean columns with built-in operator families only.  For
 * each ordered path over a winnow index, offer the one with these conditions
 * too.  (See build_index_paths and match_boolean_index_clause in PostgreSQL,
 * indxpath.c; version 17 needs none of this.)
 */
#include "postgres.h"

#include "winnow.h"

#if WINNOW_PLAN_HOOK

#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/lsyscache.h"

static set_rel_pathlist_hook_type previous_pathlist = NULL;

/* Is it "column operator ANY (constant)", with an operator of the column? */
static bool
list_matches(IndexOptInfo *index, int column, Node *clause)
{
	ScalarArrayOpExpr *list = (ScalarArrayOpExpr *) clause;

	return IsA(clause, ScalarArrayOpExpr) && list->useOr &&
		match_index_to_operand(linitial(list->args), column, index) &&
		op_in_opfamily(list->opno, index->opfamily[column]) &&
		(!OidIsValid(index->indexcollations[column]) ||
		 index->indexcollations[column] == list->inputcollid) &&
		!contain_var_clause(lsecond(list->args)) &&
		!contain_volatile_functions(lsecond(list->args));
}

/* The value that a condition wants of a boolean column itself; -1 if none */
static int
boolean_wanted(IndexOptInfo *index, int column, Node *clause)
{
	BooleanTest *test = (BooleanTest *) clause;

	if (index->opcintype[column] != BOOLOID ||
		!op_in_opfamily(BooleanEqualOperator, index->opfamily[column]))
		return -1;
	if (match_index_to_operand(clause, column, index))
		return 1;
	if (is_notclause(clause) &&
		match_index_to_operand((Node *) get_notclausearg((Expr *) clause), column,
							   index))
		return 0;
	if (IsA(clause, BooleanTest) &&
		(test->booltesttype == IS_TRUE || test->booltesttype == IS_FALSE) &&
		match_index_to_operand((Node *) test->arg, column, index))
		return test->booltesttype == IS_TRUE;
	return -1;
}

/* The column, as an expression, that a boolean condition is about */
static Node *
boolean_column(Node *clause)
{
	if (is_notclause(clause))
		return (Node *) get_notclausearg((Expr *) clause);
	if (IsA(clause, BooleanTest))
		return (Node *) ((BooleanTest *) clause)->arg;
	return clause;
}

/* An index clause for a condition that the planner left out, or NULL */
static IndexClause *
match_condition(PlannerInfo *root, IndexOptInfo *index,
				int column, RestrictInfo *condition)
{
	Node *clause = (Node *) condition->clause;
	IndexClause *result;
	int wanted;

	if (condition->pseudoconstant ||
      !restriction_is_securely_promotable(condition, index->rel))
		return NULL;

	result = makeNode(IndexClause);
	result->rinfo = condition;
	result->indexcol = column;
	if (list_matches(index, column, clause))
	{
		result->indexquals = list_make1(condition);
		return result;
	}

	wanted = boolean_wanted(index, column, clause);
	if (wanted < 0)
		return NULL;
	clause = (Node *) make_opclause(
		BooleanEqualOperator, BOOLOID, false, (Expr *) boolean_column(clause),
		(Expr *) makeBoolConst(wanted, false), InvalidOid, InvalidOid);
	result->indexquals =
		list_make1(make_simple_restrictinfo(root, (Expr *) clause));
    return result;
}

static bool
has_condition(List *clauses, RestrictInfo *condition)
{
	ListCell *lc;

	foreach(lc, clauses)
	{
		if (lfirst_node(IndexClause, lc)->rinfo == condition)
			return true;
	}
	return false;
}

/* The clauses of a path and those left out, in the order of the columns */
static List *
complete_clauses(PlannerInfo *root, IndexPath *path)
{
	IndexOptInfo *index = path->indexinfo;
	List *clauses = NIL;
	ListCell *lc;

	for (int column = 0; column < index->nkeycolumns; column++)
	{
		foreach(lc, path->indexclauses)
		{
			IndexClause *clause = lfirst_node(IndexClause, lc);

			if (clause->indexcol == column)
				clauses = lappend(clauses, clause);
		}
		foreach(lc, index->indrestrictinfo)
		{
			RestrictInfo *condition = lfirst_node(RestrictInfo, lc);
			IndexClause *clause;

			if (has_condition(path->indexclauses, condition) ||
				has_condition(clauses, condition))
				continue;
			clause = match_condition(root, index, column, condition);
			if (clause != NULL)
				clauses = lappend(clauses, clause);
		}
    }
	return clauses;
}

static void
complete_paths(PlannerInfo *root, RelOptInfo *rel, Index rti,
			   RangeTblEntry *rte)
{
	List *paths = NIL;
	ListCell *lc;

	if (previous_pathlist != NULL)
		previous_pathlist(root, rel, rti, rte);

	/* a list of their own: adding a path can take others out, and free them */
	foreach(lc, rel->pathlist)
	{
		IndexPath *path = (IndexPath *) lfirst(lc);

		if (IsA(path, IndexPath) && path->indexorderbys != NIL &&
        path->path.param_info == NULL &&
			path->indexinfo->amcostestimate == (void (*)()) winnow_costestimate)
			paths = lappend(paths, path);
	}
	foreach(lc, paths)
	{
		IndexPath *path = lfirst_node(IndexPath, lc);
		List *clauses = complete_clauses(root, path);

		if (list_length(clauses) > list_length(path->indexclauses))
			add_path(rel, (Path *) create_index_path(
                        root, path->indexinfo, clauses, path->indexorderbys,
                        path->indexorderbycols, path->path.pathkeys,
                        path->indexscandir, false, NULL, 1.0, false));
	}
	list_free(paths);
}

void
winnow_plan_init(void)
{
	previous_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = complete_paths;
}

#else

void
winnow_plan_init(void)
{
}

#endif							/* WINNOW_PLAN_HOOK */
