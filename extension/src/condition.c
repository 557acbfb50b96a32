/*
 * condition.c
 *		What columns tell of the conditions that the planner left to the executor.
 *
 * An index condition is an operator between a column and a constant.  Whatever
 * else is in a WHERE clause (OR across columns, NOT IN, IS DISTINCT FROM, ...)
 * is a filter of the plan node above the scan: the executor tests it on each row
 * that comes out.  The scan reads that filter, and leaves out rows that, by
 * their columns, cannot pass it.  That the executor tests it all the same means
 * that nothing here has to be complete: what is not understood lets every row
 * pass.
 *
 * In SQL a condition is true, false or unknown.  So an expression is compiled
 * for the outcomes that are wanted of it: for which rows may it have one of
 * these?  Thus NOT needs no test that is the opposite of another, only the
 * opposite outcome.
 *
 * Constants (parameters, also those of other tables' rows, and expressions that
 * are not volatile) are evaluated when the scan begins, and again for each
 * rescan, as those of index conditions are.
 */
#include "postgres.h"

#include "filter_private.h"

#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteManip.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/rls.h"
#include "utils/typcache.h"

/* Outcomes */
#define IS_TRUE_OUTCOME		0x1
#define IS_FALSE_OUTCOME	0x2
#define IS_NULL_OUTCOME		0x4
#define IS_ANY_OUTCOME		0x7

/*
 * For some outcomes AND and OR are compiled twice, and so is what is in them: on so many levels at most, as
 * each doubles the time ("((a AND b) IS UNKNOWN AND c) IS UNKNOWN ...")
 */
#define MOST_DOUBLINGS 4

typedef struct Compiler
{
	const WinnowSchema *schema;
	Relation	index;
	Index		varno;			/* of the table */
	ExprContext *econtext;
	List	   *expressions;	/* of the index */
	int			doublings;		/* of what is being compiled */
} Compiler;

/* A comparison of a column with constants */
typedef struct Comparison
{
	const WinnowAttr *attr;
	int			number;			/* of the attribute */
	ScanKeyData key;
	CodedElement *elements;		/* constants, of which one must do ... */
	int			count;
	bool		null_element;	/* ... and a NULL */
} Comparison;

static Condition *compile(Compiler *compiler, Node *expression, int wanted);

/* ----------
 * Conditions
 * ----------
 */

static Condition *
make_condition(ConditionKind kind)
{
	Condition  *condition = palloc0_object(Condition);

	condition->kind = kind;
	return condition;
}

static Condition *
never(void)
{
	return make_condition(CONDITION_NEVER);
}

static bool
is_never(const Condition *condition)
{
	return condition != NULL && condition->kind == CONDITION_NEVER;
}

/* Join two conditions by AND or OR; long chains stay flat */
static Condition *
join(ConditionKind kind, Condition *a, Condition *b)
{
	Condition  *condition = a;

	if (a->kind != kind)
	{
		condition = make_condition(kind);
		condition->parts = list_make1(a);
	}
	condition->parts = lappend(condition->parts, b);
	return condition;
}

static Condition *
both(Condition *a, Condition *b)
{
	if (a == NULL || is_never(b))
		return b;
	if (b == NULL || is_never(a))
		return a;
	return join(CONDITION_AND, a, b);
}

static Condition *
either(Condition *a, Condition *b)
{
	if (a == NULL || is_never(b))
		return a;
	if (b == NULL || is_never(a))
		return b;
	return join(CONDITION_OR, a, b);
}

/* A test of an attribute, still without any demand */
static Condition *
make_test(const Compiler *compiler, int number)
{
	Condition  *condition = make_condition(CONDITION_TEST);

	condition->test.attr = &compiler->schema->attrs[number];
	condition->test.number = number;
	condition->test.signatures = palloc0_object(BloomTest);
	return condition;
}

/* The rows whose attribute is NULL, or those where it is not */
static Condition *
null_condition(const Compiler *compiler, int number, bool want_null)
{
	Condition  *condition = make_test(compiler, number);

	condition->test.wants_null = want_null;
	condition->test.wants_value = !want_null;
	return condition;
}

/* Of an outcome that is the same for all rows */
static Condition *
constant_condition(int outcome, int wanted)
{
	return (outcome & wanted) != 0 ? NULL : never();
}

/* ----------
 * Columns and constants
 * ----------
 */

/*
 * The number of the attribute that an expression is; -1 if it is none.  As
 * match_index_to_operand of the planner.
 */
static int
attribute_of(const Compiler *compiler, Node *operand)
{
	if (IsA(operand, RelabelType))
		operand = (Node *) ((RelabelType *) operand)->arg;
	for (int number = 0; number < compiler->schema->nattrs; number++)
	{
		int			attno = compiler->schema->attrs[number].index_attno;
		AttrNumber	column = compiler->index->rd_index->indkey.values[attno];
		int			place = 0;
		Node	   *expression;

		if (column != 0)
		{
			Var		   *var = (Var *) operand;

			if (IsA(var, Var) && var->varno == (int) compiler->varno &&
				var->varattno == column && var->varlevelsup == 0)
				return number;
			continue;
		}
		for (int before = 0; before < attno; before++)
			place += compiler->index->rd_index->indkey.values[before] == 0;
		expression = list_nth(compiler->expressions, place);
		if (IsA(expression, RelabelType))
			expression = (Node *) ((RelabelType *) expression)->arg;
		if (equal(expression, operand))
			return number;
	}
	return -1;
}

static bool
is_not_leakproof(Oid function, void *context)
{
	return !get_func_leakproof(function);
}

/* Does an expression have a parameter? */
static bool
has_parameter(Node *node, void *context)
{
	if (node == NULL)
		return false;
	return IsA(node, Param) || expression_tree_walker(node, has_parameter, context);
}

/* Is there something in it that may raise an error? */
static bool
may_fail(Node *node, void *context)
{
	if (node == NULL)
		return false;
	switch (nodeTag(node))
	{
		case T_List:
		case T_Const:
		case T_Param:
		case T_RelabelType:
		case T_CollateExpr:
		case T_ArrayExpr:
		case T_BoolExpr:
		case T_NullTest:
		case T_BooleanTest:
			break;
		case T_FuncExpr:
		case T_OpExpr:
		case T_DistinctExpr:
		case T_NullIfExpr:
		case T_ScalarArrayOpExpr:
		case T_CoerceViaIO:
			if (check_functions_in_node(node, is_not_leakproof, context))
				return true;
			break;
		default:
			return true;
	}
	return expression_tree_walker(node, may_fail, context);
}

/*
 * Is an expression a constant for the length of a scan, and one that can be evaluated before it, although
 * the executor may not come to it?  What a column is compared with the planner has evaluated already, to know how many
 * rows match, unless there is a parameter in it.
 */
static bool
is_constant(Node *expression)
{
	return !contain_var_clause(expression) && !contain_volatile_functions(expression) &&
		   !contain_subplans(expression) && !(has_parameter(expression, NULL) && may_fail(expression, NULL));
}

static Datum
evaluate(const Compiler *compiler, Node *expression, bool *isnull)
{
	ParamListInfo parameters = compiler->econtext->ecxt_param_list_info;

	if (IsA(expression, Const))
	{
		*isnull = ((Const *) expression)->constisnull;
		return ((Const *) expression)->constvalue;
	}
	return ExecEvalExpr(ExecInitExprWithParams((Expr *) expression, parameters),
						compiler->econtext, isnull);
}

/* ----------
 * Comparisons
 * ----------
 */

/*
 * Fill in the key of "attribute operator constant"; false if the operator is
 * none of the attribute's operator class.
 */
static bool
make_key(const Compiler *compiler, int number, Oid opno, Oid collation, Comparison *comparison)
{
	const WinnowAttr *attr = &compiler->schema->attrs[number];
	Oid			family = compiler->index->rd_opfamily[attr->index_attno];
	int			strategy;
	Oid			left;
	Oid			right;

	if (!OidIsValid(opno) || !op_in_opfamily(opno, family) ||
		(OidIsValid(attr->collation) && attr->collation != collation))
		return false;
	get_op_opfamily_properties(opno, family, false, &strategy, &left, &right);
	memset(comparison, 0, sizeof(*comparison));
	comparison->attr = attr;
	comparison->number = number;
	ScanKeyEntryInitialize(&comparison->key, 0, attr->index_attno + 1, strategy, right,
						   collation, get_opcode(opno), (Datum) 0);
	return true;
}

/* The rows for which a comparison with constants may have a wanted outcome */
static Condition *
compare(const Compiler *compiler, Comparison *comparison, int wanted)
{
	Condition  *result = never();
	Condition  *part;
	bool		decided;

	if (wanted & IS_TRUE_OUTCOME)
	{
		part = make_test(compiler, comparison->number);
		if (winnow_test_compile(&part->test, &comparison->key, comparison->elements,
								comparison->count, &decided))
			result = part;
	}
	if ((wanted & IS_FALSE_OUTCOME) && !comparison->null_element)
	{
		part = make_test(compiler, comparison->number);
		if (winnow_test_exclude(&part->test, &comparison->key, comparison->elements,
								comparison->count))
			result = either(result, part);

		/* any value, or none */
		if (result == part && part->test.codes == NULL && (wanted & IS_NULL_OUTCOME))
			return NULL;
	}
	if (!(wanted & IS_NULL_OUTCOME))
		return result;
	if (comparison->null_element)
		return NULL;
	return either(result, null_condition(compiler, comparison->number, true));
}

/* The wanted outcomes of an expression, given those of its negation */
static int
negated(int wanted)
{
	return (wanted & IS_TRUE_OUTCOME ? IS_FALSE_OUTCOME : 0) |
		   (wanted & IS_FALSE_OUTCOME ? IS_TRUE_OUTCOME : 0) | (wanted & IS_NULL_OUTCOME);
}

/*
 * "operand operator operand" with an attribute on one side.  distinct is for IS
 * DISTINCT FROM, whose operator is the equality, and which is never unknown.
 */
static Condition *
compile_operator(Compiler *compiler, OpExpr *clause, bool distinct, int wanted)
{
	Oid			opno = clause->opno;
	Node	   *constant;
	int			number;
	Comparison	comparison;
	bool		isnull;

	if (list_length(clause->args) != 2)
		return NULL;
	constant = lsecond(clause->args);
	number = attribute_of(compiler, linitial(clause->args));
	if (number < 0)
	{
		constant = linitial(clause->args);
		number = attribute_of(compiler, lsecond(clause->args));
		opno = get_commutator(opno);
	}
	if (number < 0 || !is_constant(constant))
		return NULL;

	/* "a <> b" is "NOT a = b" where the family has the equality alone */
	if (!make_key(compiler, number, opno, clause->inputcollid, &comparison))
	{
		if (distinct ||
			!make_key(compiler, number, get_negator(opno), clause->inputcollid, &comparison))
			return NULL;
		wanted = negated(wanted);
	}

	comparison.key.sk_argument = evaluate(compiler, constant, &isnull);
	if (isnull && distinct)
		return either(wanted & IS_TRUE_OUTCOME ? null_condition(compiler, number, false) : never(),
					  wanted & IS_FALSE_OUTCOME ? null_condition(compiler, number, true) : never());
	if (isnull)
		return constant_condition(IS_NULL_OUTCOME, wanted);
	if (distinct)
		wanted = (wanted & IS_TRUE_OUTCOME ? IS_FALSE_OUTCOME | IS_NULL_OUTCOME : 0) |
				 (wanted & IS_FALSE_OUTCOME ? IS_TRUE_OUTCOME : 0);
	comparison.elements = winnow_key_elements(&comparison.key, &comparison.count);
	return compare(compiler, &comparison, wanted);
}

/* "attribute operator ANY (list)", or ALL */
static Condition *
compile_list(Compiler *compiler, ScalarArrayOpExpr *clause, int number, int wanted)
{
	Oid			opno = clause->opno;
	Comparison	comparison;
	ArrayType  *array;
	Datum		value;
	bool		isnull;

	/* "a <> ALL (list)" is "NOT a = ANY (list)" */
	if (!clause->useOr)
	{
		opno = get_negator(opno);
		wanted = negated(wanted);
	}
	if (!make_key(compiler, number, opno, clause->inputcollid, &comparison) ||
		comparison.attr->type->kind == WINNOW_COLUMN_SIGNATURE)
		return NULL;
	value = evaluate(compiler, lsecond(clause->args), &isnull);
	if (isnull)
		return constant_condition(IS_NULL_OUTCOME, wanted);
	array = DatumGetArrayTypeP(value);
	comparison.key.sk_flags |= SK_SEARCHARRAY;
	comparison.key.sk_argument = PointerGetDatum(array);
	comparison.elements = winnow_key_elements(&comparison.key, &comparison.count);
	comparison.null_element = array_contains_nulls(array);
	if (comparison.count == 0 && !comparison.null_element)
		return constant_condition(IS_FALSE_OUTCOME, wanted);
	return compare(compiler, &comparison, wanted);
}

/* "constant = ANY (attribute)", if the operator is the one that hashes go with */
static Condition *
compile_element(Compiler *compiler, ScalarArrayOpExpr *clause, int number, int wanted)
{
	const WinnowAttr *attr = &compiler->schema->attrs[number];
	Condition  *condition;
	BloomTest  *bloom;
	Datum		value;
	bool		isnull;

	if (!clause->useOr || wanted != IS_TRUE_OUTCOME ||
		attr->type->kind != WINNOW_COLUMN_SIGNATURE ||
		(OidIsValid(attr->collation) && attr->collation != clause->inputcollid) ||
		clause->opno != lookup_type_cache(attr->elemtype, TYPECACHE_EQ_OPR)->eq_opr)
		return NULL;
	value = evaluate(compiler, linitial(clause->args), &isnull);
	if (isnull)
		return never();
	condition = null_condition(compiler, number, false);
	bloom = condition->test.signatures;
	bloom->needs = palloc0(sizeof(*bloom->needs));
	bloom->count = 1;
	winnow_bloom_bits(winnow_attr_hash(attr, value), bloom->needs[0]);
	condition->test.nsignatures = 1;
	return condition;
}

static Condition *
compile_array(Compiler *compiler, ScalarArrayOpExpr *clause, int wanted)
{
	int			left = attribute_of(compiler, linitial(clause->args));
	int			right = attribute_of(compiler, lsecond(clause->args));

	if (left >= 0 && is_constant(lsecond(clause->args)))
		return compile_list(compiler, clause, left, wanted);
	if (right >= 0 && is_constant(linitial(clause->args)))
		return compile_element(compiler, clause, right, wanted);
	return NULL;
}

/* A boolean attribute as a condition */
static Condition *
compile_boolean(const Compiler *compiler, int number, int wanted)
{
	Condition  *result = wanted & IS_NULL_OUTCOME ? null_condition(compiler, number, true) : never();

	for (int value = 0; value <= 1; value++)
	{
		CodeRangeList list = {0};
		Condition  *part = null_condition(compiler, number, false);

		if (!(wanted & (value ? IS_TRUE_OUTCOME : IS_FALSE_OUTCOME)))
			continue;
		winnow_codes_add(&list, value, value);
		part->test.codes = winnow_codes_set(&list);
		result = either(result, part);
	}
	return result;
}

/* ----------
 * Logic
 * ----------
 */

static Condition *compile_junction(Compiler *compiler, BoolExpr *clause, int wanted);

/* Neither of true and false, and one of the two, are made of the other outcomes */
static Condition *
compile_twice(Compiler *compiler, BoolExpr *clause, int wanted)
{
	bool		neither = wanted == IS_NULL_OUTCOME;
	Condition  *first;
	Condition  *second;

	if (compiler->doublings == MOST_DOUBLINGS)
		return NULL;
	compiler->doublings++;
	first = compile_junction(compiler, clause, neither ? IS_TRUE_OUTCOME | IS_NULL_OUTCOME : IS_TRUE_OUTCOME);
	second = compile_junction(compiler, clause, neither ? IS_FALSE_OUTCOME | IS_NULL_OUTCOME : IS_FALSE_OUTCOME);
	compiler->doublings--;
	return neither ? both(first, second) : either(first, second);
}

/* AND and OR */
static Condition *
compile_junction(Compiler *compiler, BoolExpr *clause, int wanted)
{
	bool		joined;
	Condition  *result;
	ListCell   *cell;

	if (wanted == IS_NULL_OUTCOME || wanted == (IS_TRUE_OUTCOME | IS_FALSE_OUTCOME))
		return compile_twice(compiler, clause, wanted);

	/*
	 * AND is true, or not false, if all parts are; it is false, or not true, if
	 * one part is.  With OR it is the other way round.  As in the executor, a
	 * part is not evaluated when those before it have decided.
	 */
	joined = (clause->boolop == AND_EXPR) == ((wanted & IS_TRUE_OUTCOME) != 0);
	result = joined ? NULL : never();
	foreach(cell, clause->args)
	{
		Condition  *part = compile(compiler, lfirst(cell), wanted);

		result = joined ? both(result, part) : either(result, part);
		if (joined ? is_never(result) : result == NULL)
			break;
	}
	return result;
}

/* IS [NOT] TRUE, FALSE, UNKNOWN, NULL: given the outcomes that make it true */
static Condition *
compile_outcome_test(Compiler *compiler, Node *argument, int outcomes, int wanted)
{
	return compile(compiler, argument,
				   (wanted & IS_TRUE_OUTCOME ? outcomes : 0) |
					   (wanted & IS_FALSE_OUTCOME ? IS_ANY_OUTCOME & ~outcomes : 0));
}

static int
outcomes_of_test(BoolTestType type)
{
	switch (type)
	{
		case IS_TRUE:
			return IS_TRUE_OUTCOME;
		case IS_NOT_TRUE:
			return IS_FALSE_OUTCOME | IS_NULL_OUTCOME;
		case IS_FALSE:
			return IS_FALSE_OUTCOME;
		case IS_NOT_FALSE:
			return IS_TRUE_OUTCOME | IS_NULL_OUTCOME;
		case IS_UNKNOWN:
			return IS_NULL_OUTCOME;
		case IS_NOT_UNKNOWN:
			return IS_TRUE_OUTCOME | IS_FALSE_OUTCOME;
	}
	return IS_ANY_OUTCOME;
}

static Condition *
compile_null_test(Compiler *compiler, NullTest *test, int wanted)
{
	int			number = attribute_of(compiler, (Node *) test->arg);
	bool		want_null = test->nulltesttype == IS_NULL;

	if (test->argisrow)
		return NULL;
	if (number >= 0)
		return either(wanted & IS_TRUE_OUTCOME ? null_condition(compiler, number, want_null) : never(),
					  wanted & IS_FALSE_OUTCOME ? null_condition(compiler, number, !want_null) : never());
	if (exprType((Node *) test->arg) == BOOLOID)
		return compile_outcome_test(compiler, (Node *) test->arg,
									want_null ? IS_NULL_OUTCOME : IS_TRUE_OUTCOME | IS_FALSE_OUTCOME, wanted);
	return NULL;
}

/* The rows for which an expression may have one of the wanted outcomes */
static Condition *
compile(Compiler *compiler, Node *expression, int wanted)
{
	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (wanted == 0)
		return never();
	if (wanted == IS_ANY_OUTCOME)
		return NULL;

	/* of a whole arm the planner has not evaluated what is stable */
	if (is_constant(expression) && !(contain_mutable_functions(expression) && may_fail(expression, NULL)))
	{
		bool		isnull;
		bool		value = DatumGetBool(evaluate(compiler, expression, &isnull));
		int			outcome = value ? IS_TRUE_OUTCOME : IS_FALSE_OUTCOME;

		return constant_condition(isnull ? IS_NULL_OUTCOME : outcome, wanted);
	}
	switch (nodeTag(expression))
	{
		case T_BoolExpr:
			if (is_notclause(expression))
				return compile(compiler, (Node *) get_notclausearg(expression), negated(wanted));
			return compile_junction(compiler, (BoolExpr *) expression, wanted);
		case T_OpExpr:
			return compile_operator(compiler, (OpExpr *) expression, false, wanted);
		case T_DistinctExpr:
			return compile_operator(compiler, (OpExpr *) expression, true, wanted);
		case T_ScalarArrayOpExpr:
			return compile_array(compiler, (ScalarArrayOpExpr *) expression, wanted);
		case T_BooleanTest:
			return compile_outcome_test(compiler, (Node *) ((BooleanTest *) expression)->arg,
										outcomes_of_test(((BooleanTest *) expression)->booltesttype),
										wanted);
		case T_NullTest:
			return compile_null_test(compiler, (NullTest *) expression, wanted);
		default:
			{
				int			number = attribute_of(compiler, expression);

				if (number >= 0 && compiler->schema->attrs[number].typid == BOOLOID)
					return compile_boolean(compiler, number, wanted);
				return NULL;
			}
	}
}

/* All tests are as they will be */
static void
finish(const WinnowSchema *schema, Condition *condition)
{
	ListCell   *cell;

	if (condition->kind == CONDITION_TEST)
		winnow_test_finish(schema, &condition->test);
	foreach(cell, condition->parts)
		finish(schema, lfirst(cell));
}

/*
 * Would a condition, tested on rows that a policy hides from who asks, tell of them?  How many rows pass can be seen
 * (EXPLAIN, winnow_last_scan).  Of a partition it is the parent that has the policy, so any parent of the
 * statement counts.
 */
static bool
may_leak(const IndexScanState *node, Node *condition)
{
	List	   *tables = node->ss.ps.state->es_range_table;

	if (!contain_leaked_vars(condition))
		return false;
	for (int i = 0; i < list_length(tables); i++)
	{
		const RangeTblEntry *table = list_nth_node(RangeTblEntry, tables, i);

		if (table->rtekind == RTE_RELATION &&
			(table->inh || i + 1 == (int) ((Scan *) node->ss.ps.plan)->scanrelid) &&
			check_enable_rls(table->relid, InvalidOid, true) == RLS_ENABLED)
			return true;
	}
	return false;
}

/*
 * Let a filter leave out rows that the executor's conditions reject.  The node
 * is the scan's; the context is that of the filter.
 */
void
winnow_filter_narrow(WinnowFilter *filter, Relation index, IndexScanState *node,
					 MemoryContext context)
{
	Compiler	compiler = {.schema = filter->schema,
							.index = index,
							.varno = ((Scan *) node->ss.ps.plan)->scanrelid,
							.econtext = node->ss.ps.ps_ExprContext};
	MemoryContext old = MemoryContextSwitchTo(context);
	ListCell   *cell;

	if (node->ss.ps.plan->qual != NIL)
	{
		compiler.expressions = RelationGetIndexExpressions(index);
		if (compiler.varno != 1)
			ChangeVarNodes((Node *) compiler.expressions, 1, compiler.varno, 0);
	}
	foreach(cell, node->ss.ps.plan->qual)
	{
		Condition  *condition;

		/* without columns it says nothing of a row */
		if (is_constant(lfirst(cell)) || may_leak(node, lfirst(cell)))
			continue;
		condition = compile(&compiler, lfirst(cell), IS_TRUE_OUTCOME);
		if (condition != NULL)
			filter->conditions = lappend(filter->conditions, lfirst(cell));
		filter->condition = both(filter->condition, condition);
	}
	if (is_never(filter->condition))
		filter->never = true;
	if (filter->condition != NULL)
		finish(filter->schema, filter->condition);
	MemoryContextSwitchTo(old);
}
