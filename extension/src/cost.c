/*
 * cost.c
 *		What a scan and a distance cost, for the planner.
 *
 * A search for k rows does nearly all of its work before the first row comes
 * out: it reads the lists that are likely to hold them, estimates those of
 * their rows that pass the filter, and fetches the best from the table.  The
 * numbers below were measured on text embeddings (62,666 and 1,000,000 rows of
 * 384 dimensions, filters that pass 0.01 % to all rows, k from 1 to 1,000), the
 * time of one row of a sequential scan being what its cost says it is.
 */
#include "postgres.h"

#include "winnow.h"

#include "owner.h"
#include "recall.h"
#include "search.h"

#include <math.h>

#include "catalog/pg_attribute.h"
#include "fmgr.h"
#include "nodes/nodeFuncs.h"
#include "nodes/supportnodes.h"
#include "optimizer/clauses.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "parser/parsetree.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"
#include "utils/syscache.h"

/* Of paths that would give a wrong answer; finite, so that sums stay ordered */
#define FORBIDDEN_COST 1e50

/* Rows the search is made for when the plan does not say */
#define UNKNOWN_LIMIT 10

/*
 * Rows that 1-bit codes do not rule out, for k of very many rows that pass: c =
 * 13 k^0.77 (384 / dimensions)^0.3; for k of m, c m / (c + m).  They are fetched
 * from the table; with refinement codes of b bits, only k of them and a share of
 * the others, about 1.9 / 1.74^b.
 */
#define RERANK_FACTOR				13.0
#define RERANK_EXPONENT				0.77
#define RERANK_DIMENSIONS			384.0
#define RERANK_DIMENSIONS_EXPONENT	0.3
#define REFINED_FACTOR				1.9
#define REFINED_BASE				1.74

/*
 * Relative to cpu_operator_cost: testing one row's columns, estimating a code
 * (and more for each dimension).
 */
#define TEST_COST				0.2
#define ESTIMATE_COST			12.0
#define ESTIMATE_DIMENSION_COST	0.01

/*
 * On a table that was never analyzed, how many rows match is anyone's guess.  A
 * search then takes three times as long as the quickest plan at most, whatever their
 * number turns out to be (0.01 to 50 %), a sort of what another index finds up to
 * 270 times: the planner is to prefer the search unless much speaks against it.
 */
#define GUESS_DISCOUNT	0.05

/*
 * Bytes of a row of an index besides the bits of its code, at least: the TID,
 * what the code has in numbers.
 */
#define MIN_ROW_BYTES	18

/*
 * A distance, relative to cpu_operator_cost: for any vector, for each
 * dimension; and the same for what is stored out of line.
 */
#define DISTANCE_COST				80.0
#define DISTANCE_DIMENSION_COST		0.06
#define DETOAST_COST				900.0
#define DETOAST_DIMENSION_COST		0.35

/* What the index saves of that, since it needs no expression nor a sort */
#define RERANK_SAVING				50.0

/* Does a key ask for rows without a vector?  They are not in the index. */
static bool
wants_null_vector(IndexPath *path, int vector_column)
{
	ListCell   *cell;

	foreach(cell, path->indexclauses)
	{
		IndexClause *clause = lfirst_node(IndexClause, cell);

		if (clause->indexcol == vector_column && IsA(clause->rinfo->clause, NullTest) &&
			((NullTest *) clause->rinfo->clause)->nulltesttype == IS_NULL)
			return true;
	}
	return false;
}

/* Which index column is ordered by */
static int
vector_column(IndexPath *path)
{
	return path->indexorderbycols == NIL ? -1 : linitial_int(path->indexorderbycols);
}

/* Is there a window function that may need rows after those that it is asked for? */
static bool
depends_on_all_rows(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, WindowFunc))
	{
		Oid			function = ((WindowFunc *) node)->winfnoid;

		if (function != F_ROW_NUMBER && function != F_RANK_ && function != F_DENSE_RANK_)
			return true;
	}
	return expression_tree_walker(node, depends_on_all_rows, context);
}

/*
 * Does the plan need the order for the query's ORDER BY, which is a search?  Then rows without a
 * vector may be missing, as they would come last.  What is counted, grouped or numbered needs them.
 */
static bool
is_search(PlannerInfo *root, const RelOptInfo *rel)
{
	const Query *parse = root->parse;
	ListCell   *cell;

	if (root->sort_pathkeys == NIL || root->query_pathkeys == NIL || parse->sortClause == NIL ||
		linitial(root->sort_pathkeys) != linitial(root->query_pathkeys) ||
		parse->groupClause != NIL || parse->groupingSets != NIL || parse->hasAggs ||
		winnow_may_be_extended(root, rel))
		return false;
	foreach(cell, parse->windowClause)
	{
		WindowClause *window = lfirst_node(WindowClause, cell);

		if (window->partitionClause != NIL || window->orderClause == NIL ||
			!equal(linitial(window->orderClause), linitial(parse->sortClause)))
			return false;
	}
	return !parse->hasWindowFuncs || !depends_on_all_rows((Node *) parse->targetList, NULL);
}

/*
 * Is the scan to find the least distance, for min()?  PostgreSQL plans that as ORDER BY with LIMIT 1, which an index that
 * finds 95 % of the nearest rows would answer wrongly now and then.  Nothing but the name tells (planagg.c).
 */
static bool
is_minimum(const PlannerInfo *root)
{
	const List *targets = root->parse->targetList;
	const TargetEntry *target = list_length(targets) == 1 ? linitial(targets) : NULL;

	return target != NULL && target->resname != NULL && strcmp(target->resname, "agg_target") == 0 &&
		root->parent_root != NULL && root->parent_root->parse->hasAggs;
}

/* Has every row that the scan is to find a vector? */
static bool
has_vectors(PlannerInfo *root, IndexOptInfo *index, int column)
{
	AttrNumber	attno = index->indexkeys[column];
	List	   *conditions = list_concat(extract_actual_clauses(index->indrestrictinfo, false),
											 index->indpred);
	ListCell   *cell;

	if (attno > 0)
		return winnow_not_null(planner_rt_fetch(index->rel->relid, root), index->rel, attno) ||
			winnow_is_nonnullable((Node *) conditions, index->rel->relid, attno);

	/* of an expression only such a condition tells */
	foreach(cell, conditions)
	{
		NullTest   *test = lfirst(cell);

		if (IsA(test, NullTest) && test->nulltesttype == IS_NOT_NULL &&
			match_index_to_operand((Node *) test->arg, column, index))
			return true;
	}
	return false;
}

/*
 * Would a search compute vectors of rows that a policy hides from the user by functions that call what he puts in
 * his search path?  It does before the policy is looked at if the conditions cannot be tested first (row_condition.c).
 */
static bool
reveals_rows(PlannerInfo *root, IndexPath *path)
{
	const IndexOptInfo *index = path->indexinfo;
	List	   *conditions = index->indrestrictinfo;

	if (index->indexkeys[vector_column(path)] != 0 ||
		index->rel->baserestrict_min_security >= root->qual_security_level ||
		!winnow_looks_names_up((Node *) index->indexprs, NULL))
		return false;
	if (path->path.param_info != NULL)
		conditions = list_concat_copy(conditions, path->path.param_info->ppi_clauses);
	return !winnow_may_test(extract_actual_clauses(conditions, false), path->indexorderbys);
}

/*
 * Would the path give a wrong answer?  Rows without a vector are missing in the index, so only a search by
 * distance is right, and it must not show rows that are hidden.
 */
static bool
is_wrong(PlannerInfo *root, IndexPath *path)
{
	const IndexOptInfo *index = path->indexinfo;

	if (path->indexorderbys == NIL || wants_null_vector(path, vector_column(path)) || is_minimum(root))
		return true;
	return !(is_search(root, index->rel) || has_vectors(root, path->indexinfo, vector_column(path))) ||
		reveals_rows(root, path);
}

/* Is it a relation whose rows need not match for a row of the others to be kept? */
static bool
is_optional(PlannerInfo *root, int relid)
{
	ListCell   *cell;

	foreach(cell, root->join_info_list)
	{
		SpecialJoinInfo *join = lfirst_node(SpecialJoinInfo, cell);

		if (join->jointype != JOIN_SEMI && bms_is_member(relid, join->syn_righthand))
			return true;
	}
	return false;
}

/*
 * The share of the scan's rows that joins keep, as far as can be told before there are any: a
 * relation keeps as large a share as its own conditions do of its rows.
 */
static double
share_joined(PlannerInfo *root, const RelOptInfo *scanned)
{
	double		share = 1;

	for (int relid = 1; relid < root->simple_rel_array_size; relid++)
	{
		const RelOptInfo *rel = root->simple_rel_array[relid];

		if (rel == NULL || rel->reloptkind != RELOPT_BASEREL || rel == scanned ||
			bms_is_member(relid, scanned->top_parent_relids) || is_optional(root, relid))
			continue;
		if (rel->tuples > 0 && rel->rows < rel->tuples)
			share *= Max(rel->rows, 1) / rel->tuples;
	}
	return share;
}

/* Rows that the scan has to find: the plan's LIMIT, or more if joins are to leave that many */
static double
rows_wanted(PlannerInfo *root, const RelOptInfo *rel, double matching)
{
	double		limit = root->limit_tuples > 0 ? root->limit_tuples : UNKNOWN_LIMIT;

	if (root->limit_tuples <= 0 && root->parse->limitCount == NULL)
		return matching;
	return Min(matching, limit / share_joined(root, rel));
}

/* Of the rows that columns let pass, the share that passes what is left to the executor */
static double
share_accepted(IndexPath *path, double passing)
{
	return Min(1, Max(path->path.rows / Max(path->indexinfo->rel->tuples * passing, 1), 1e-9));
}

/* Has ANALYZE seen what an index column is made of? */
static bool
has_statistics(PlannerInfo *root, IndexOptInfo *index, int column)
{
	AttrNumber	attno = index->indexkeys[column];

	if (attno == 0)
		return winnow_has_statistics(index->indexoid, (AttrNumber) (column + 1));
	return winnow_has_statistics(planner_rt_fetch(index->rel->relid, root)->relid, attno);
}

/*
 * Is the number of rows that match a guess?  Not where no more than one does, as
 * the planner knows of keys.
 */
static bool
is_guess(PlannerInfo *root, IndexPath *path, double matching)
{
	ListCell   *cell;

	foreach(cell, path->indexclauses)
	{
		IndexClause *clause = lfirst_node(IndexClause, cell);

		if (!IsA(clause->rinfo->clause, NullTest) &&
			!has_statistics(root, path->indexinfo, clause->indexcol))
			return matching > 1;
	}
	return false;
}

static int
index_dims(IndexPath *path)
{
	int			column = vector_column(path);
	Oid			type;
	int32		typmod = -1;
	Oid			collation;

	get_atttypetypmodcoll(path->indexinfo->indexoid, column + 1, &type, &typmod, &collation);
	getBaseTypeAndTypmod(type, &typmod);
	return Max(typmod, 1);
}

/*
 * Rows in the index.  Of a table that was never analyzed the planner knows the
 * size only, and takes vectors for values of 32 bytes: the size of the index
 * says how many there can be at most.
 */
static double
index_rows(IndexOptInfo *index, int dims)
{
	double		per_page = (double) WINNOW_PAGE_USABLE / (MIN_ROW_BYTES + dims / 8);

	return Max(Min(index->tuples, index->pages * per_page), 1);
}

/* Nodes read of a level of n, to find so many rows, the given share of those that match */
static double
nodes_read(double n, double wanted, double share)
{
	if (winnow_recall >= 1 || share > WINNOW_ALL_SHARE)
		return n;
	return Max(1, Min(n, winnow_recall_usual_lists(n, wanted, share) *
							 winnow_recall_effort(winnow_recall)));
}

/*
 * What it costs to read some of all the pages of a kind.  Many cost less each, as
 * in a bitmap scan (see cost_bitmap_heap_scan in PostgreSQL): the plans that this
 * one competes with are reckoned in that way.
 */
static Cost
pages_cost(Oid tablespace, double pages, double all)
{
	double		random_page_cost;
	double		seq_page_cost;

	get_tablespace_page_costs(tablespace, &random_page_cost, &seq_page_cost);
	return pages * (random_page_cost - (random_page_cost - seq_page_cost) *
					sqrt(Min(pages / Max(all, 1), 1)));
}

/* What it costs to fetch rows from the table, and the distances of the accepted ones */
static Cost
rerank_cost(PlannerInfo *root, IndexPath *path, double reranked, double accepted)
{
	RelOptInfo *rel = path->indexinfo->rel;
	double		pages = index_pages_fetched(reranked, rel->pages,
											(double) path->indexinfo->pages, root);
	QualCost	distance;

	cost_qual_eval(&distance, path->indexorderbys, root);
	return distance.startup + (reranked - accepted) * cpu_tuple_cost +
		accepted * Max(distance.per_tuple + cpu_tuple_cost - RERANK_SAVING * cpu_operator_cost, 0) +
		pages_cost(rel->reltablespace, pages, rel->pages);
}

/* How the index was built; where that cannot be told, as it would be by default */
static void
index_shape(IndexOptInfo *index, int dims, int *list_size, int *bits)
{
	/* the planner has locked it */
	Relation	rel = index_open(index->indexoid, NoLock);

	if (!winnow_index_shape(rel, list_size, bits))
	{
		*list_size = winnow_default_list_size(dims);
		*bits = winnow_default_bits(dims);
	}
	index_close(rel, NoLock);
}

/*
 * What it costs to find out which of so many rows, that pass by their columns and
 * are read, are the best of the share that matches: refinement codes, if there are
 * any, then rows of the table.
 */
static Cost
choice_cost(PlannerInfo *root, IndexPath *path, int dims, int bits, double passing,
			double accepted, double wanted)
{
	double		close = RERANK_FACTOR * pow(wanted, RERANK_EXPONENT) *
		pow(RERANK_DIMENSIONS / dims, RERANK_DIMENSIONS_EXPONENT) / accepted;
	double		pages = 0;
	double		reranked;

	if (wanted > passing * accepted * WINNOW_ALL_SHARE)
		return rerank_cost(root, path, passing, passing * accepted);
	wanted /= accepted;
	close = winnow_recall >= 1 ? passing : Max(close * passing / (close + passing), wanted);
	reranked = close;
	if (bits > 1)
	{
		reranked = wanted + (close - wanted) * Min(1, REFINED_FACTOR / pow(REFINED_BASE, bits));
		pages = close;
	}
	return rerank_cost(root, path, reranked, reranked * accepted) +
		pages_cost(path->indexinfo->reltablespace, Min(pages, path->indexinfo->pages),
				   path->indexinfo->pages) +
		pages * cpu_operator_cost * (ESTIMATE_COST + bits * ESTIMATE_DIMENSION_COST * dims);
}

/*
 * What a search costs that is to find so many of the rows that match: the accepted
 * share of those that pass by their columns.
 */
static Cost
search_cost(PlannerInfo *root, IndexPath *path, double rows, double passing, double accepted,
			double wanted)
{
	int			dims = index_dims(path);
	int			list_size;
	int			bits;
	double		share = wanted / (passing * accepted);
	double		per_node;
	double		nodes;
	double		read;
	double		all;
	double		pages;
	double		tested;
	double		estimated;

	index_shape(path->indexinfo, dims, &list_size, &bits);
	per_node = list_size * WINNOW_NODE_FILL;
	nodes = Max(rows / per_node, 1);
	read = nodes_read(nodes, wanted, share);
	all = nodes;
	pages = read;
	tested = rows * read / nodes;
	estimated = passing * read / nodes;

	/* what is above the lists */
	per_node = winnow_inner_size(list_size) * WINNOW_NODE_FILL;
	while (nodes > 1)
	{
		nodes = Max(nodes / per_node, 1);
		read = nodes_read(nodes, wanted, share);
		all += nodes;
		pages += read;
		estimated += read * per_node;
	}

	/* all that match are fetched then, and no code is read */
	if (share > WINNOW_ALL_SHARE)
		estimated = 0;

	return pages_cost(path->indexinfo->reltablespace, pages, all) +
		choice_cost(root, path, dims, bits, passing, accepted, wanted) +
		cpu_operator_cost * (tested * TEST_COST +
							 estimated * (ESTIMATE_COST + ESTIMATE_DIMENSION_COST * dims));
}

/* amcostestimate */
void
winnow_costestimate(PlannerInfo *root, IndexPath *path, double loop_count,
					Cost *startup, Cost *total, Selectivity *selectivity,
					double *correlation, double *pages)
{
	GenericCosts costs = {0};
	IndexOptInfo *index = path->indexinfo;
	Selectivity passing;
	double		rows;
	double		accepted;
	double		matching;
	double		wanted;
	double		share;

	*correlation = 0;
	*pages = index->pages;
	if (is_wrong(root, path))
	{
		*startup = FORBIDDEN_COST;
		*total = FORBIDDEN_COST;
		*selectivity = 0;
		WINNOW_DISABLE_PATH(path);
		return;
	}

	genericcostestimate(root, path, loop_count, &costs);
	passing = costs.indexSelectivity * winnow_decided_selectivity(root, path);
	rows = index_rows(index, index_dims(path));
	accepted = share_accepted(path, passing);
	matching = Max(rows * passing * accepted, 1);
	wanted = rows_wanted(root, index->rel, matching);

	/*
	 * Who reads on beyond the rows wanted pays for it, as the planner sees it
	 * in proportion.  The startup cost is such that it comes to the cost of
	 * the search when the rows wanted are out.
	 */
	share = wanted / matching;
	*total = search_cost(root, path, rows, matching / accepted, accepted, matching);
	*startup = search_cost(root, path, rows, matching / accepted, accepted, wanted);
	if (share < 1)
		*startup = Max(0, (*startup - share * *total) / (1 - share));
	*startup = Min(*startup, *total);
	*selectivity = passing;
	if ((root->limit_tuples > 0 || root->parse->limitCount != NULL) &&
		is_guess(root, path, matching))
	{
		*startup *= GUESS_DISCOUNT;
		*total *= GUESS_DISCOUNT;
		/* the planner adds the cost of so many rows of the table */
		*selectivity *= GUESS_DISCOUNT;
	}
}

/* ----------
 * Distances
 * ----------
 */

/* Is a column of a table that is in a plan stored in line whatever its size? */
static bool
always_inline(PlannerInfo *root, Node *argument)
{
	Var		   *var = (Var *) argument;
	RangeTblEntry *rte;
	HeapTuple	tuple;
	bool		result = false;

	if (root == NULL || !IsA(argument, Var) || var->varlevelsup != 0 ||
		var->varno <= 0 || var->varno >= root->simple_rel_array_size)
		return false;
	rte = root->simple_rte_array[var->varno];
	if (rte == NULL || rte->rtekind != RTE_RELATION)
		return false;

	tuple = SearchSysCache2(ATTNUM, ObjectIdGetDatum(rte->relid),
							Int16GetDatum(var->varattno));
	if (HeapTupleIsValid(tuple))
	{
		result = ((Form_pg_attribute) GETSTRUCT(tuple))->attstorage == TYPSTORAGE_PLAIN;
		ReleaseSysCache(tuple);
	}
	return result;
}

/*
 * Planner support of the distance functions: what one costs.  To fetch a vector
 * that is stored out of line takes ten times as long as to compare it.
 */
PG_FUNCTION_INFO_V1(winnow_distance_support);
Datum
winnow_distance_support(PG_FUNCTION_ARGS)
{
	SupportRequestCost *request = (SupportRequestCost *) PG_GETARG_POINTER(0);
	List	   *arguments = NIL;
	ListCell   *cell;
	double		cost = DISTANCE_COST;

	if (!IsA(request, SupportRequestCost))
		PG_RETURN_POINTER(NULL);
	if (request->node != NULL && IsA(request->node, OpExpr))
		arguments = ((OpExpr *) request->node)->args;
	else if (request->node != NULL && IsA(request->node, FuncExpr))
		arguments = ((FuncExpr *) request->node)->args;

	foreach(cell, arguments)
	{
		Node	   *argument = lfirst(cell);
		int			dims = exprTypmod(argument);

		/* constants and parameters have been fetched already */
		if (!IsA(argument, Var) || dims < 1)
			continue;
		cost += DISTANCE_DIMENSION_COST * dims;
		if (!winnow_is_inline(dims) && !always_inline(request->root, argument))
			cost += DETOAST_COST + DETOAST_DIMENSION_COST * dims;
	}
	request->startup = 0;
	request->per_tuple = cost * cpu_operator_cost;
	PG_RETURN_POINTER(request);
}
