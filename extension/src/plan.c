/*
 * plan.c
 *		Conditions that the planner leaves out, although the index serves them.
 *
 * For each ordered path over a winnow index that the planner has kept (of
 * several such indexes it may have kept one), offer the one that has these
 * conditions too:
 *
 *		constant = ANY (column)			as column @> ARRAY[constant]
 *		column = a OR column = b		as column = ANY (ARRAY[a, b]); PostgreSQL
 *										does that itself from 18 on
 *		column = ANY (list)				PostgreSQL 15 and 16 assume that a list on
 *										any but the first column breaks the order
 *										of the scan, as it would in a B-tree
 *		column, NOT column,				of boolean columns: PostgreSQL 15 knows
 *		column IS TRUE, ... IS FALSE	built-in operator families only
 *
 * (See build_index_paths, match_orclause_to_indexcol and
 * match_boolean_index_clause in PostgreSQL, indxpath.c.)
 */
#include "postgres.h"

#include "winnow.h"

#include "access/stratnum.h"
#include "catalog/pg_operator.h"
#include "catalog/pg_type.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
#include "utils/typcache.h"

static set_rel_pathlist_hook_type previous_pathlist = NULL;

/* Is an expression a constant for the length of a scan? */
static bool
is_constant(Node *expression)
{
	return !contain_var_clause(expression) && !contain_volatile_functions(expression);
}

static bool
collation_matches(IndexOptInfo *index, int column, Oid collation)
{
	return !OidIsValid(index->indexcollations[column]) ||
		index->indexcollations[column] == collation;
}

/* ARRAY[...] of constants of one type, or NULL where there is no such type */
static Node *
array_of(PlannerInfo *root, List *constants, Oid collation)
{
	ArrayExpr  *array = makeNode(ArrayExpr);

	array->element_typeid = exprType(linitial(constants));
	array->array_typeid = get_array_type(array->element_typeid);
	array->array_collid = collation;
	array->elements = constants;
	array->location = -1;
	if (!OidIsValid(array->array_typeid))
		return NULL;
	return eval_const_expressions(root, (Node *) array);
}

/* "column operator ANY (list)", an operator of the column's, as it is */
static Node *
match_list(IndexOptInfo *index, int column, Node *clause)
{
	ScalarArrayOpExpr *list = (ScalarArrayOpExpr *) clause;

	if (IsA(clause, ScalarArrayOpExpr) && list->useOr &&
		match_index_to_operand(linitial(list->args), column, index) &&
		op_in_opfamily(list->opno, index->opfamily[column]) &&
		collation_matches(index, column, list->inputcollid) &&
		is_constant(lsecond(list->args)))
		return clause;
	return NULL;
}

/*
 * The constant that elements of a type are compared with by an operator, as one
 * of that type; NULL if the operator is not the equality of the type's default
 * operator class, or its equality with a type that is cast to it without asking.
 */
static Node *
element_constant(Node *constant, Oid element_type, Oid opno)
{
	TypeCacheEntry *type = lookup_type_cache(element_type, TYPECACHE_EQ_OPR |
											 TYPECACHE_BTREE_OPFAMILY);

	if (exprType(constant) == element_type)
		return opno == type->eq_opr ? constant : NULL;
	if (!OidIsValid(type->btree_opf) ||
		get_op_opfamily_strategy(opno, type->btree_opf) != BTEqualStrategyNumber)
		return NULL;
	constant = coerce_to_target_type(NULL, constant, exprType(constant), element_type, -1,
									 COERCION_IMPLICIT, COERCE_IMPLICIT_CAST, -1);

	/* a cast that is not leakproof may fail, as that of a date to a timestamp, where the operator does not */
	if (constant != NULL && IsA(constant, FuncExpr) &&
		!get_func_leakproof(((FuncExpr *) constant)->funcid))
		return NULL;
	return constant;
}

/*
 * "constant = ANY (column)" as "column @> ARRAY[constant]", which is true of the
 * same rows: of none if the constant is NULL.
 */
static Node *
match_element(PlannerInfo *root, IndexOptInfo *index, int column, Node *clause)
{
	ScalarArrayOpExpr *list = (ScalarArrayOpExpr *) clause;
	Node	   *constant;
	Node	   *array;
	Oid			element_type;

	if (!IsA(clause, ScalarArrayOpExpr) || !list->useOr)
		return NULL;
	constant = linitial(list->args);
	array = lsecond(list->args);
	element_type = get_base_element_type(exprType(array));
	if (!OidIsValid(element_type) || !match_index_to_operand(array, column, index) ||
		!op_in_opfamily(OID_ARRAY_CONTAINS_OP, index->opfamily[column]) ||
		!collation_matches(index, column, list->inputcollid) || !is_constant(constant))
		return NULL;

	constant = element_constant(constant, element_type, list->opno);
	if (constant != NULL)
		constant = array_of(root, list_make1(constant), exprCollation(constant));
	if (constant == NULL)
		return NULL;
	return (Node *) make_opclause(OID_ARRAY_CONTAINS_OP, BOOLOID, false, (Expr *) array,
								  (Expr *) constant, InvalidOid, list->inputcollid);
}

/* "column operator constant OR column operator constant ..." as a list */
static Node *
match_or(PlannerInfo *root, IndexOptInfo *index, int column, Node *clause)
{
	ScalarArrayOpExpr *list = makeNode(ScalarArrayOpExpr);
	List	   *constants = NIL;
	Node	   *operand = NULL;
	Node	   *array;
	ListCell   *cell;

	if (!is_orclause(clause))
		return NULL;
	foreach(cell, ((BoolExpr *) clause)->args)
	{
		OpExpr	   *arm = lfirst(cell);
		Node	   *constant;
		Oid			opno;

		if (!IsA(arm, OpExpr) || list_length(arm->args) != 2)
			return NULL;
		operand = linitial(arm->args);
		constant = lsecond(arm->args);
		opno = arm->opno;
		if (!match_index_to_operand(operand, column, index))
		{
			operand = lsecond(arm->args);
			constant = linitial(arm->args);
			opno = get_commutator(arm->opno);
			if (!match_index_to_operand(operand, column, index))
				return NULL;
		}
		if (constants == NIL)
		{
			list->opno = opno;
			list->inputcollid = arm->inputcollid;
		}
		if (!OidIsValid(opno) || opno != list->opno || arm->inputcollid != list->inputcollid || !op_in_opfamily(opno, index->opfamily[column]) ||
			!collation_matches(index, column, arm->inputcollid) ||
			!is_constant(constant) ||
			(constants != NIL && exprType(constant) != exprType(linitial(constants))))
			return NULL;
		constants = lappend(constants, constant);
	}

	array = array_of(root, constants, exprCollation(linitial(constants)));
	if (array == NULL)
		return NULL;
	list->opfuncid = get_opcode(list->opno);
	list->useOr = true;
	list->args = list_make2(operand, array);
	list->location = -1;
	return (Node *) list;
}

/* A condition on a boolean column itself as "column = value" */
static Node *
match_boolean(IndexOptInfo *index, int column, Node *clause)
{
	Node	   *operand = clause;
	bool		wanted = true;

	if (is_notclause(clause))
	{
		operand = (Node *) get_notclausearg((Expr *) clause);
		wanted = false;
	}
	else if (IsA(clause, BooleanTest))
	{
		BooleanTest *test = (BooleanTest *) clause;

		if (test->booltesttype != IS_TRUE && test->booltesttype != IS_FALSE)
			return NULL;
		operand = (Node *) test->arg;
		wanted = test->booltesttype == IS_TRUE;
	}

	if (index->opcintype[column] != BOOLOID ||
		!op_in_opfamily(BooleanEqualOperator, index->opfamily[column]) ||
		!match_index_to_operand(operand, column, index))
		return NULL;
	return (Node *) make_opclause(BooleanEqualOperator, BOOLOID, false, (Expr *) operand,
								  (Expr *) makeBoolConst(wanted, false), InvalidOid, InvalidOid);
}

static bool
has_condition(List *clauses, RestrictInfo *condition)
{
	ListCell   *cell;

	foreach(cell, clauses)
	{
		if (lfirst_node(IndexClause, cell)->rinfo == condition)
			return true;
	}
	return false;
}

/* The index column that an expression is, or -1 */
static int
column_of(IndexOptInfo *index, Node *operand)
{
	for (int column = 0; column < index->nkeycolumns; column++)
	{
		if (match_index_to_operand(operand, column, index))
			return column;
	}
	return -1;
}

/*
 * Does a column decide a comparison with constants?  Where it has to tell for
 * sure that the comparison is not true, its codes must be exact: it has the
 * operator that is the opposite, too.
 */
static bool
operator_decided(IndexOptInfo *index, int column, Oid opno, Oid collation, bool negated)
{
	return column >= 0 && OidIsValid(opno) &&
		   op_in_opfamily(opno, index->opfamily[column]) &&
		   collation_matches(index, column, collation) &&
		   (!negated || (OidIsValid(get_negator(opno)) &&
						 op_in_opfamily(get_negator(opno), index->opfamily[column])));
}

static bool
comparison_decided(IndexOptInfo *index, OpExpr *clause, bool negated)
{
	int			left;
	int			right;

	if (list_length(clause->args) != 2)
		return false;
	left = column_of(index, linitial(clause->args));
	right = column_of(index, lsecond(clause->args));
	if (left >= 0)
		return is_constant(lsecond(clause->args)) &&
			   operator_decided(index, left, clause->opno, clause->inputcollid, negated);
	return is_constant(linitial(clause->args)) &&
		   operator_decided(index, right, get_commutator(clause->opno), clause->inputcollid,
							negated);
}

static bool
list_decided(IndexOptInfo *index, ScalarArrayOpExpr *clause, bool negated)
{
	int			left = column_of(index, linitial(clause->args));
	int			right = column_of(index, lsecond(clause->args));
	TypeCacheEntry *type;

	if (left >= 0)
		return is_constant(lsecond(clause->args)) &&
			   operator_decided(index, left, clause->opno, clause->inputcollid,
								negated || !clause->useOr);
	type = lookup_type_cache(exprType(linitial(clause->args)), TYPECACHE_EQ_OPR);
	return right >= 0 && clause->useOr && !negated && is_constant(linitial(clause->args)) &&
		   op_in_opfamily(OID_ARRAY_CONTAINS_OP, index->opfamily[right]) &&
		   clause->opno == type->eq_opr;
}

/* Has the index only hashes of a column, and prefixes? */
static bool
is_hashed(IndexOptInfo *index, int column)
{
	Oid			type = index->opcintype[column];
	Oid			support = get_opfamily_proc(index->opfamily[column], type, type, WINNOW_COLUMN_PROC);

	return OidIsValid(support) &&
		   ((const WinnowColumnType *)
				DatumGetPointer(OidFunctionCall1(support, PointerGetDatum(NULL))))
				   ->kind == WINNOW_COLUMN_HASHED;
}

/*
 * Are the rows that fail "column <> constant", or NOT IN, set apart by their hashes?
 * That is as good as decided.
 */
static bool
sets_apart(IndexOptInfo *index, Node *clause)
{
	bool		is_list = IsA(clause, ScalarArrayOpExpr);
	ScalarArrayOpExpr *list = (ScalarArrayOpExpr *) clause;
	OpExpr	   *comparison = (OpExpr *) clause;
	List	   *args;
	Node	   *constant;
	Oid			opno;
	int			column;

	if (winnow_recall >= 1 || (is_list ? list->useOr : !IsA(clause, OpExpr)))
		return false;
	args = is_list ? list->args : comparison->args;
	opno = get_negator(is_list ? list->opno : comparison->opno);
	if (!OidIsValid(opno) || list_length(args) != 2)
		return false;

	column = column_of(index, linitial(args));
	constant = lsecond(args);
	if (column < 0 && !is_list)
	{
		column = column_of(index, lsecond(args));
		constant = linitial(args);
		opno = get_commutator(opno);
	}
	return column >= 0 && is_constant(constant) && OidIsValid(opno) &&
		   get_op_opfamily_strategy(opno, index->opfamily[column]) == WINNOW_STRATEGY_EQUAL &&
		   collation_matches(index, column, is_list ? list->inputcollid : comparison->inputcollid) &&
		   is_hashed(index, column);
}

/*
 * Do the columns decide a condition that is left to the executor?  So far as it
 * matters for its cost: condition.c, which uses them when the scan runs, knows
 * better.
 */
static bool
columns_decide(IndexOptInfo *index, Node *clause, bool negated)
{
	ListCell   *cell;

	if (is_constant(clause))
		return true;
	switch (nodeTag(clause))
	{
		case T_BoolExpr:
			foreach(cell, ((BoolExpr *) clause)->args)
			{
				if (!columns_decide(index, lfirst(cell), negated || is_notclause(clause)))
					return false;
			}
			return true;
		case T_BooleanTest:
			return columns_decide(index, (Node *) ((BooleanTest *) clause)->arg,
								  negated || ((BooleanTest *) clause)->booltesttype != IS_TRUE);
		case T_NullTest:
			return column_of(index, (Node *) ((NullTest *) clause)->arg) >= 0;
		case T_OpExpr:
			return comparison_decided(index, (OpExpr *) clause, negated);
		case T_DistinctExpr:
			return comparison_decided(index, (OpExpr *) clause, true);
		case T_ScalarArrayOpExpr:
			return list_decided(index, (ScalarArrayOpExpr *) clause, negated);
		default:
			return exprType(clause) == BOOLOID && column_of(index, clause) >= 0;
	}
}

/* An index clause for a condition that the planner left out, or NULL */
static IndexClause *
match_condition(PlannerInfo *root, IndexOptInfo *index, int column, RestrictInfo *condition)
{
	Node	   *clause = (Node *) condition->clause;
	Node	   *served;
	IndexClause *result;

	if (condition->pseudoconstant ||
		!restriction_is_securely_promotable(condition, index->rel))
		return NULL;

	served = match_list(index, column, clause);
	if (served == NULL)
		served = match_element(root, index, column, clause);
	if (served == NULL)
		served = match_or(root, index, column, clause);
	if (served == NULL)
		served = match_boolean(index, column, clause);
	if (served == NULL)
		return NULL;

	/* under row-level security, what is served must not tell more either */
	if (served != clause && contain_leaked_vars(served) &&
		condition->security_level > index->rel->baserestrict_min_security)
		return NULL;

	result = makeNode(IndexClause);
	result->rinfo = condition;
	result->indexcol = column;
	result->indexquals = list_make1(served == clause ? condition :
									make_simple_restrictinfo(root, (Expr *) served));
	return result;
}

/* Is there an index clause for a condition, whether or not a path has it? */
static bool
is_served(PlannerInfo *root, IndexOptInfo *index, RestrictInfo *condition)
{
	for (int column = 0; column < index->nkeycolumns; column++)
	{
		if (match_condition(root, index, column, condition) != NULL)
			return true;
	}
	return false;
}

/*
 * The share of rows that pass the conditions of a path which are left to the
 * executor, but which columns decide.  Conditions that a better path leaves to
 * the index do not count.
 */
Selectivity
winnow_decided_selectivity(PlannerInfo *root, IndexPath *path)
{
	IndexOptInfo *index = path->indexinfo;
	List	   *decided = NIL;
	ListCell   *cell;

	foreach(cell, index->indrestrictinfo)
	{
		RestrictInfo *condition = lfirst_node(RestrictInfo, cell);

		/* what may leak is not tested before a policy, see winnow_filter_narrow */
		if (!condition->pseudoconstant && !has_condition(path->indexclauses, condition) &&
			restriction_is_securely_promotable(condition, index->rel) &&
			(columns_decide(index, (Node *) condition->clause, false) ||
			 sets_apart(index, (Node *) condition->clause)) &&
			!is_served(root, index, condition))
			decided = lappend(decided, condition);
	}
	return clauselist_selectivity(root, decided, index->rel->relid, JOIN_INNER, NULL);
}

/* The clauses of a path and those left out, in the order of the columns */
static List *
complete_clauses(PlannerInfo *root, IndexPath *path)
{
	IndexOptInfo *index = path->indexinfo;
	List	   *clauses = NIL;
	ListCell   *cell;

	for (int column = 0; column < index->nkeycolumns; column++)
	{
		foreach(cell, path->indexclauses)
		{
			IndexClause *clause = lfirst_node(IndexClause, cell);

			if (clause->indexcol == column)
				clauses = lappend(clauses, clause);
		}
		foreach(cell, index->indrestrictinfo)
		{
			RestrictInfo *condition = lfirst_node(RestrictInfo, cell);
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
complete_paths(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	List	   *paths = NIL;
	ListCell   *cell;

	if (previous_pathlist != NULL)
		previous_pathlist(root, rel, rti, rte);

	/* a list of their own: adding a path can take others out, and free them */
	foreach(cell, rel->pathlist)
	{
		IndexPath  *path = (IndexPath *) lfirst(cell);

		if (IsA(path, IndexPath) && path->indexorderbys != NIL &&
			path->path.param_info == NULL &&
			path->indexinfo->amcostestimate == (void (*) ()) winnow_costestimate)
			paths = lappend(paths, path);
	}
	foreach(cell, paths)
	{
		IndexPath  *path = lfirst_node(IndexPath, cell);
		List	   *clauses = complete_clauses(root, path);

		if (list_length(clauses) > list_length(path->indexclauses))
			add_path(rel, (Path *)
							  create_index_path(root, path->indexinfo, clauses, path->indexorderbys,
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
