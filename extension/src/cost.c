/*
 * cost.c
 *		What a scan costs, for the planner.
 *
 * All work is done before the first row comes out.  A search for k rows reads
 * the lists that are likely to hold them: more lists the fewer of their rows
 * match.  What a list costs is mostly testing its rows' columns, and
 * estimating those that pass.
 */
#include "postgres.h"

#include "winnow.h"

#include <math.h>

#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/spccache.h"

/* Of paths that would give a wrong answer; finite, so that sums stay ordered */
#define FORBIDDEN_COST 1e50

/* Rows the search is made for when the plan does not say */
#define UNKNOWN_LIMIT 10

/*
 * Relative to cpu_operator_cost: testing one row's columns, estimating a code.
 * Both are a few nanoseconds, an operator call some tens.
 */
#define TEST_COST		0.05
#define ESTIMATE_COST	0.25

/*
 * Lists read of n, for k rows of which a share s matches:
 *		1.6 n^0.58 s^-0.3 (k / 10)^0.25
 * as measured on text embeddings (214 and 3,500 lists, s from 1 to 0.01).
 */
#define LISTS_FACTOR		1.6
#define LISTS_EXPONENT		0.58
#define SHARE_EXPONENT		(-0.3)
#define LIMIT_EXPONENT		0.25

/* How full lists are on average */
#define LIST_FILL			0.57

/* Heap rows fetched for each row wanted, and at least */
#define RERANK_FACTOR	4.0
#define RERANK_BASE		30.0

/*
 * A rerank, relative to cpu_operator_cost, for narrow vectors and for each
 * dimension: fetching the row, reading its vector, one distance.
 */
#define RERANK_COST				100.0
#define RERANK_DIMENSION_COST	0.05

/* Pages are mostly cached: the share of random_page_cost that one costs */
#define PAGE_SHARE	0.1

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

/* Rows that the scan has to find: the plan's LIMIT before residual filters */
static double
rows_wanted(PlannerInfo *root, IndexPath *path, double key_selectivity)
{
	RelOptInfo *rel = path->indexinfo->rel;
	double		matching = Max(rel->tuples * key_selectivity, 1);
	double		residual = Min(1, Max(rel->rows / matching, 1e-6));
	double		wanted;

	if (root->limit_tuples > 0)
		wanted = root->limit_tuples;
	else if (root->parse->limitCount != NULL)
		wanted = UNKNOWN_LIMIT;
	else
		return matching;
	return Min(matching, Max(1, wanted / residual));
}

static int
index_dims(IndexPath *path)
{
	int			column = vector_column(path);
	Oid			type;
	int32		typmod = -1;
	Oid			collation;

	get_atttypetypmodcoll(path->indexinfo->indexoid, column + 1, &type, &typmod, &collation);
	return Max(typmod, 1);
}

/* amcostestimate */
void
winnow_costestimate(PlannerInfo *root, IndexPath *path, double loop_count,
					Cost *startup, Cost *total, Selectivity *selectivity,
					double *correlation, double *pages)
{
	GenericCosts costs = {0};
	IndexOptInfo *index = path->indexinfo;
	double		rows = Max(index->tuples, 1);
	double		nlists;
	double		probed;
	double		tested;
	double		matching;
	double		wanted;
	double		reranked;
	double		pages_read;
	double		random_page_cost;
	int			dims;

	*correlation = 0;
	*pages = index->pages;
	if (path->indexorderbys == NIL || wants_null_vector(path, vector_column(path)))
	{
		/* rows without a vector are missing: only an ordered scan is right */
		*startup = FORBIDDEN_COST;
		*total = FORBIDDEN_COST;
		*selectivity = 0;
		WINNOW_DISABLE_PATH(path);
		return;
	}

	genericcostestimate(root, path, loop_count, &costs);
	get_tablespace_page_costs(index->reltablespace, &random_page_cost, NULL);
	dims = index_dims(path);
	wanted = rows_wanted(root, path, costs.indexSelectivity);
	matching = Max(rows * costs.indexSelectivity, 1);

	nlists = Max(1, rows / (WINNOW_DEFAULT_LIST_SIZE * LIST_FILL));
	probed = LISTS_FACTOR * pow(nlists, LISTS_EXPONENT) *
		pow(Max(costs.indexSelectivity, 1.0 / rows), SHARE_EXPONENT) *
		pow(wanted / 10, LIMIT_EXPONENT);
	if (winnow_recall >= 1 || wanted >= matching)
		probed = nlists;
	probed = Min(probed, nlists);
	tested = rows * probed / nlists;
	reranked = winnow_recall >= 1 ? matching :
		Min(matching, RERANK_BASE + RERANK_FACTOR * wanted);
	pages_read = index->pages * probed / nlists +
		index_pages_fetched(reranked, index->rel->pages, (double) index->pages, root);

	*startup = pages_read * random_page_cost * PAGE_SHARE +
		tested * TEST_COST * cpu_operator_cost +
		tested * costs.indexSelectivity * ESTIMATE_COST * cpu_operator_cost +
		nlists * ESTIMATE_COST * cpu_operator_cost +
		reranked * (RERANK_COST + RERANK_DIMENSION_COST * dims) * cpu_operator_cost;
	*total = *startup + wanted * cpu_index_tuple_cost;
	*selectivity = costs.indexSelectivity;
}
