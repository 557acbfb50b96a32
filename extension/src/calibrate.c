/*
 * calibrate.c
 *		Which tolerance of the stopping rule gives which recall, and with which
 *		effective dimension.
 *
 * While an index is built, some rows of the sample are taken as queries, under
 * filters made up for the purpose: rows drawn at random, at several rates, and
 * the rows near another query, which stand for filters that go with the vector.
 * The exact neighbours of every query and the list of each are found as the
 * lists are written.  Then the search is played through for each query and
 * filter, in the order and by the estimates of recall.c, noting the recall at
 * which it would have stopped for every tolerance.  What a search knows of lists
 * that it has not read is not exact, as it comes from codes; so it is here.  The tolerance of a target is
 * the largest at which no kind of filter falls short of it.
 *
 * DESIGN.md, section 4, has the rules, MEASUREMENTS.md the figures.
 */
#include "postgres.h"

#include "calibrate_private.h"

#include <math.h>

#include "core/mean.h"
#include "core/random.h"
#include "kernels/kernels.h"
#include "miscadmin.h"
#include "utils/memutils.h"

/*
 * Filters: shares of rows drawn at random, then shares of rows near another
 * query: one at random, and the farthest.  Few categories are confined to a
 * region, so some other rows pass the latter too: a tenth as many, for the last
 * query a thousandth.
 */
#define FARTHEST_FILTER 5
static const double shares[FILTERS] = {1, 0.1, RARE_SHARE, 0.001, 0.05, 0.02};

/* Rows that the radius of the latter is found with, and the mean */
#define SAMPLE_ROWS 2000

/* Played queries that a kind of filter must have to count */
#define ENOUGH_QUERIES 32

/* Of one list there is nothing to calibrate */
#define ENOUGH_LISTS 2

/* So few do not tell which dimension is right: the first one is that of an index of which nothing is known */
#define FEW_LISTS 16

/*
 * A tolerance is at most so many times the share that may be missed.  Where there are few lists, any tolerance
 * does, which says nothing of an index that has grown
 */
#define MOST_TOLERATED 6

/*
 * Queries that are not rows of the table, and filters of real life, are harder; less so the more rows
 * are wanted, and whether one row is found is a matter of chance
 */
static const double safety[WINNOW_RECALL_KINDS] = {0.4, 0.65, 0.85};

/*
 * The effective dimension that comes first is halved as long as searches for .95 to .99 read fewer lists then.
 * Estimates that are far too small leave nothing to be tolerated; nor do those that are far too large.
 */
#define FIRST_DIM 96
#define LEAST_TARGET 4
#define HARD_TARGET 6
#define LEAST_DIM 2

/* Targets that tolerances are kept for; between them they are interpolated */
const double winnow_calibration_targets[WINNOW_RECALL_TARGETS] =
	{0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995};

/* What may remain of a tolerance for ten rows if one is wanted, at most: few queries tell little of the high targets */
#define ONE_SHARE 0.6

/* What remains of a tolerance for ten rows if a hundred are wanted, where that is not known */
#define MANY_SHARE pow(10, -WINNOW_MORE_ROWS)

/*
 * Before anything is known of the data: the dimension, and tolerances smaller than most kinds of data ask for.
 * For inner products both are smaller still, as vectors may be of very different lengths.
 */
#define EFFECTIVE_DIM 64
#define EFFECTIVE_DIM_IP 4
#define DEFAULT_SHARE_IP 0.2
static const float defaults[WINNOW_RECALL_TARGETS] =
	{0.4f, 0.2f, 0.1f, 0.035f, 0.01f, 0.0015f, 0.0005f, 0.00025f};

void
winnow_calibration_default(WinnowMeta *meta)
{
	bool		inner = meta->metric == WINNOW_METRIC_IP;

	meta->effective_dim = Min(meta->dims, inner ? EFFECTIVE_DIM_IP : EFFECTIVE_DIM);
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
	{
		double		tolerance = defaults[t] * (inner ? DEFAULT_SHARE_IP : 1);

		meta->tolerance[WINNOW_FOR_1][t] = (float) (tolerance * ONE_SHARE);
		meta->tolerance[WINNOW_FOR_10][t] = (float) tolerance;
		meta->tolerance[WINNOW_FOR_100][t] = (float) (tolerance * MANY_SHARE);
	}
}

/* The tolerance for a target, between those that are kept */
double
winnow_tolerance(const float *tolerance, double target)
{
	const double *targets = winnow_calibration_targets;
	int			i = 1;
	double		from;
	double		to;
	double		share;

	if (target >= 1)
		return 0;
	if (target >= targets[WINNOW_RECALL_TARGETS - 1])
		return tolerance[WINNOW_RECALL_TARGETS - 1] * (1 - target) /
			(1 - targets[WINNOW_RECALL_TARGETS - 1]);
	while (targets[i] < target)
		i++;
	from = log(1 - targets[i - 1]);
	to = log(1 - targets[i]);
	share = Max(0, (log(1 - target) - from) / (to - from));
	return exp(log(tolerance[i - 1]) * (1 - share) + log(tolerance[i]) * share);
}

/* A calibration without questions */
static WinnowCalibration *
calibration_alloc(WinnowTeam *team)
{
	WinnowCalibration *calibration = palloc0(sizeof(WinnowCalibration));
	int			dims = team->index->dims;

	calibration->team = team;
	calibration->index = team->index;
	calibration->mean = palloc0(sizeof(float) * dims);
	calibration->distance2 = palloc(sizeof(float) * QUERIES);
	return calibration;
}

static int
compare_floats(const void *a, const void *b)
{
	float		x = *(const float *) a;
	float		y = *(const float *) b;

	return x < y ? -1 : x > y;
}

/* The queries whose neighbourhoods are filters for query i */
static void
choose_others(WinnowCalibration *calibration, int i)
{
	int			dims = calibration->index->dims;
	int			nqueries = Min(calibration->asked.nqueries, COMMON_QUERIES);
	int			farthest = 0;

	winnow_kernels->l2_squared_many(calibration->queries + (Size) i * dims,
									calibration->queries, dims, nqueries, dims,
									calibration->distance2);
	for (int j = 1; j < nqueries; j++)
		if (calibration->distance2[j] > calibration->distance2[farthest])
			farthest = j;
	for (int f = RANDOM_FILTERS; f < FILTERS; f++)
		calibration->asked.other[f][i] = f == FARTHEST_FILTER ? farthest :
			(i + nqueries / 2) % nqueries;
}

/* How near a row must be to pass such a filter, judging by the sample */
static void
find_radii(WinnowCalibration *calibration, const WinnowRows *sample)
{
	Questions  *asked = &calibration->asked;
	int			dims = calibration->index->dims;
	float	   *distance2 = palloc(sizeof(float) * sample->count);

	for (int i = 0; i < Min(asked->nqueries, COMMON_QUERIES); i++)
	{
		CHECK_FOR_INTERRUPTS();
		choose_others(calibration, i);
		for (int f = RANDOM_FILTERS; f < FILTERS; f++)
		{
			winnow_kernels->l2_squared_many(calibration->queries + (Size) asked->other[f][i] * dims,
											sample->vectors, dims, sample->count, dims,
											distance2);
			qsort(distance2, sample->count, sizeof(float), compare_floats);
			asked->radius2[f][i] = distance2[(int) (shares[f] * (sample->count - 1))];
		}
	}
	pfree(distance2);
}

/*
 * The mean of the rows without the outliers among them, and the numbers of those that are
 * none, in usual[].  Returns how many these are.
 */
static int
usual_rows(const WinnowRows *rows, int dims, float *mean, int *usual)
{
	double	   *squared = palloc_extended(sizeof(double) * (3 * rows->count + dims), MCXT_ALLOC_HUGE);
	double		far = winnow_mean(rows->vectors, NULL, NULL, rows->count, dims, mean, squared,
								  squared + rows->count);
	int			n = 0;

	for (int i = 0; i < rows->count; i++)
		if (squared[i] <= far)
			usual[n++] = i;
	pfree(squared);
	return n;
}

/* Which of n rows is a query: all over them, and the first queries too */
static int
sampled_row(int query, int nqueries, int n)
{
	int			place = query;

	if (nqueries >= COMMON_QUERIES)
		place = query % COMMON_QUERIES * (nqueries / COMMON_QUERIES) + query / COMMON_QUERIES;
	return (int) ((int64) place * n / nqueries);
}

/*
 * Take queries from the sample, and let all participants know them.  Outliers are not asked for:
 * to find the neighbours of one takes most lists, and as a tolerance has to do for all queries, all would read these.
 */
void
winnow_calibration_seed(WinnowTeam *team)
{
	WinnowCalibration *calibration = calibration_alloc(team);
	Questions  *asked = &calibration->asked;
	int			dims = team->index->dims;
	WinnowSpool *spool = winnow_sample_open(team);
	int64		most = Min(SAMPLE_ROWS, team->shared->unit / (sizeof(float) * dims));
	WinnowBatch *sample = winnow_spool_load(spool, Max(most, COMMON_QUERIES), WINNOW_SALT_SEED);
	int		   *usual = palloc(sizeof(int) * sample->rows.count);
	int			nusual = sample->rows.count > 0 ?
					 usual_rows(&sample->rows, dims, calibration->mean, usual) :
					 0;
	BufFile    *file = winnow_file_create(&team->files, "questions", 0);

	if (nusual >= ENOUGH_QUERIES)
	{
		asked->nqueries = Min(QUERIES, nusual);
		if (asked->nqueries > COMMON_QUERIES)
			asked->nqueries -= asked->nqueries % COMMON_QUERIES;
		calibration->queries = palloc(sizeof(float) * dims * asked->nqueries);
		for (int i = 0; i < asked->nqueries; i++)
		{
			float	   *query = calibration->queries + (Size) i * dims;
			int			row = usual[sampled_row(i, asked->nqueries, nusual)];

			memcpy(query, sample->rows.vectors + (Size) row * dims, sizeof(float) * dims);
			asked->key[i] = sample->keys[row];
			asked->query2[i] = winnow_kernels->inner_product(query, query, dims);
		}
		find_radii(calibration, &sample->rows);
	}
	winnow_file_write(file, asked, sizeof(Questions));
	winnow_file_write(file, calibration->mean, sizeof(float) * dims);
	winnow_file_write(file, calibration->queries, sizeof(float) * dims * asked->nqueries);
	BufFileClose(file);
	winnow_batch_free(sample);
	winnow_spool_close(spool);
}

/*
 * A search knows lists that it has not read by codes, with the centroid of the node
 * above.  Here there is no such node yet: the mean stands for it.
 */
static void
prepare_codes(WinnowCalibration *calibration)
{
	int			dims = calibration->index->dims;
	int			nqueries = calibration->asked.nqueries;

	calibration->code = palloc(calibration->index->code_bytes);
	calibration->query_codes = palloc(MAXALIGN(winnow_query_bytes(dims)) * Max(nqueries, 1));
	for (int i = 0; i < nqueries; i++)
		winnow_query_prepare(query_code(calibration, i), calibration->index->metric,
							 calibration->queries + (Size) i * dims, calibration->mean, dims);
}

/* The scores of a centroid as a search would estimate them */
static void
estimate_centroid(WinnowCalibration *calibration, const float *centroid, float *estimate)
{
	const uint16 row = 0;
	float		lower;

	winnow_encode(centroid, calibration->mean, calibration->index->dims, calibration->code);
	for (int i = 0; i < calibration->asked.nqueries; i++)
		winnow_estimate(query_code(calibration, i), calibration->code,
						calibration->index->code_bytes, &row, 1, 0, &estimate[i], &lower);
}

/* Read what is asked; mean and queries come next in the file */
static BufFile *
open_questions(const WinnowTeam *team, Questions *asked)
{
	BufFile    *file = winnow_file_open_only(&team->files, "questions", 0);

	winnow_file_read(file, asked, sizeof(Questions));
	return file;
}

/* The questions, and nothing known yet */
WinnowCalibration *
winnow_calibration_open(WinnowTeam *team)
{
	WinnowCalibration *calibration = calibration_alloc(team);
	int			dims = team->index->dims;
	BufFile    *file = open_questions(team, &calibration->asked);

	winnow_file_read(file, calibration->mean, sizeof(float) * dims);
	calibration->queries = palloc(sizeof(float) * dims * Max(calibration->asked.nqueries, 1));
	winnow_file_read(file, calibration->queries,
					 sizeof(float) * dims * calibration->asked.nqueries);
	BufFileClose(file);
	prepare_codes(calibration);
	for (int i = 0; i < COMMON_QUERIES; i++)
		calibration->stray[i] = 0.1 * pow(0.01, (double) i / COMMON_QUERIES);
	for (int f = 0; f < FILTERS; f++)
		for (int i = 0; i < queries_of(calibration, f); i++)
		{
			calibration->nearest[f][i].items = palloc(sizeof(Neighbour) * KEPT);
			calibration->nearest[f][i].allocated = KEPT;
		}
	return calibration;
}

/* The score that a query gives to a vector, from their distance */
static inline float
score_of(const WinnowCalibration *calibration, int query, float distance2, float length2)
{
	return calibration->index->metric != WINNOW_METRIC_IP ? distance2 :
		(distance2 - length2 - calibration->asked.query2[query]) / 2;
}

/* Lists of tables that have grown are not always split in time, so they may have more rows than can be counted */
static inline void
count_row(uint16 *rows, bool passes)
{
	*rows += passes && *rows < PG_UINT16_MAX;
}

/* A row of a list */
typedef struct Offered
{
	uint64		list;
	uint64		key;
	float		length2;		/* its squared length, for inner products */
	double		draw;			/* for random filters */
} Offered;

/* Offer a row to some of the queries, whose distances are known, under every filter that it passes */
static void
offer_to(WinnowCalibration *calibration, const Offered *row, int first, int end)
{
	const Questions *asked = &calibration->asked;
	const float *distance2 = calibration->distance2;

	for (int i = first; i < end; i++)
	{
		Neighbour	neighbour = {score_of(calibration, i, distance2[i], row->length2), row->list};

		/* the query itself */
		if (row->key == asked->key[i])
			continue;
		for (int f = 0; f < FILTERS; f++)
		{
			if (i >= COMMON_QUERIES && !is_rare(f))
				continue;
			if (f >= RANDOM_FILTERS)
			{
				if (row->draw >= shares[f] * calibration->stray[i] &&
					distance2[asked->other[f][i]] > asked->radius2[f][i])
					continue;
				count_row(&calibration->notes.passed[f][i], true);
			}
			else if (row->draw >= shares[f])
				continue;
			neighbours_offer(&calibration->nearest[f][i], neighbour);
		}
	}
}

/* Offer one row of a list to every query, under every filter that it passes */
static void
offer_row(WinnowCalibration *calibration, uint64 list, uint64 key, const float *vector)
{
	const WinnowIndex *index = calibration->index;
	int			dims = index->dims;
	int			nqueries = calibration->asked.nqueries;
	Offered		row = {.list = list, .key = key};

	if (index->metric == WINNOW_METRIC_IP)
		row.length2 = winnow_kernels->inner_product(vector, vector, dims);
	winnow_kernels->l2_squared_many(vector, calibration->queries, dims, Min(nqueries, COMMON_QUERIES), dims,
									calibration->distance2);
	for (int d = 0; d < DRAWS; d++)
	{
		row.draw = winnow_key_draw(key, WINNOW_SALT_FILTER + d);
		for (int f = 0; f < RANDOM_FILTERS; f++)
			count_row(&calibration->notes.random[f][d], row.draw < shares[f]);
		for (int first = d * DRAW_QUERIES; first < nqueries; first += COMMON_QUERIES)
		{
			int			end = Min(first + DRAW_QUERIES, nqueries);

			if (first >= COMMON_QUERIES)
			{
				if (row.draw >= RARE_SHARE)
					break;
				winnow_kernels->l2_squared_many(vector, calibration->queries + (Size) first * dims, dims,
												end - first, dims, calibration->distance2 + first);
			}
			offer_to(calibration, &row, first, end);
		}
	}
}

/* The lists that follow are those of a part, in the order of their keys */
void
winnow_calibration_begin_part(WinnowCalibration *calibration, int part)
{
	calibration->file = winnow_file_create(&calibration->team->files, "notes", part);
}

void
winnow_calibration_end_part(WinnowCalibration *calibration)
{
	BufFileClose(calibration->file);
	calibration->file = NULL;
}

/* A list has been written */
void
winnow_calibration_list(WinnowCalibration *calibration, uint64 key, const WinnowRows *rows,
						const WinnowNode *node)
{
	ListNotes  *notes = &calibration->notes;
	int			dims = calibration->index->dims;
	int			nqueries = calibration->asked.nqueries;
	float		length2;

	if (nqueries == 0)
		return;
	memset(notes, 0, sizeof(*notes));
	memcpy(&notes->stats, node->image, sizeof(WinnowChildStats));
	length2 = winnow_kernels->inner_product(node->centroid, node->centroid, dims);
	notes->spread = winnow_kernels->l2_squared(node->centroid, calibration->mean, dims);
	winnow_kernels->l2_squared_many(node->centroid, calibration->queries, dims, nqueries, dims,
									calibration->distance2);
	for (int i = 0; i < nqueries; i++)
		notes->centroid[i] = score_of(calibration, i, calibration->distance2[i], length2);
	estimate_centroid(calibration, node->centroid, notes->estimate);
	memcpy(notes->code, calibration->code, sizeof(notes->code));
	for (int i = 0; i < rows->count; i++)
		offer_row(calibration, key, rows->ids[i], rows->vectors + (Size) i * dims);
	winnow_file_write(calibration->file, notes, sizeof(*notes));
}

/* Write down the neighbours that this participant has found */
void
winnow_calibration_close(WinnowCalibration *calibration)
{
	BufFile    *file = winnow_file_create(&calibration->team->files, "neighbours", 0);

	for (int f = 0; f < FILTERS; f++)
		for (int i = 0; i < queries_of(calibration, f); i++)
		{
			neighbours_heap *nearest = &calibration->nearest[f][i];

			winnow_file_write(file, &nearest->count, sizeof(nearest->count));
			winnow_file_write(file, nearest->items, sizeof(Neighbour) * nearest->count);
		}
	BufFileClose(file);
}

/* The largest tolerances that do for a kind of filter; 0 where they are not known */
typedef struct Tolerances
{
	double		largest[FILTERS][WINNOW_RECALL_TARGETS];
	double		lists;			/* read with what does for all filters, as a geometric mean over these and the targets from
								 * LEAST_TARGET to HARD_TARGET */
} Tolerances;

/* The step of the largest tolerance that does for a target under a filter, STEPS if none does */
static int
find_step(const Outcome *outcome, int target)
{
	/* codes may cost some recall too */
	double		recall = winnow_calibration_targets[target] +
		winnow_recall_code_share(winnow_calibration_targets[target]);
	int			step = 0;

	while (step < STEPS && outcome->recall[target][step] < recall * outcome->count)
		step++;
	return step;
}

/* What "lists" of Tolerances is: all nlists, where no tolerance does */
static double
mean_lists(const Outcome *outcomes, int nlists)
{
	double		sum = 0;
	int			n = 0;

	for (int t = LEAST_TARGET; t <= HARD_TARGET; t++)
	{
		int			step = 0;

		for (int f = 0; f < FILTERS; f++)
			if (outcomes[f].count >= ENOUGH_QUERIES)
				step = Max(step, find_step(&outcomes[f], t));
		for (int f = 0; f < FILTERS; f++)
			if (outcomes[f].count >= ENOUGH_QUERIES)
			{
				sum += log(step < STEPS ? outcomes[f].lists[t][step] / outcomes[f].count : nlists);
				n++;
			}
	}
	return exp(sum / Max(n, 1));
}

/* Those of searches for k rows, with an effective dimension */
static void
find_tolerances(WinnowTeam *team, int nqueries, float effective_dim, int k, Tolerances *found)
{
	Outcome    *outcomes = palloc(sizeof(Outcome) * FILTERS);

	memset(found, 0, sizeof(*found));
	winnow_calibration_run(team, nqueries, effective_dim, k, outcomes);
	for (int f = 0; f < FILTERS; f++)
		for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		{
			if (outcomes[f].count < ENOUGH_QUERIES)
				continue;
			found->largest[f][t] = LARGEST * pow(STEP, find_step(&outcomes[f], t));
			elog(DEBUG1, "winnow: dimension %g, %d rows, target %g, filter %d (%d queries): tolerance %g",
				 effective_dim, k, winnow_calibration_targets[t], f, outcomes[f].count, found->largest[f][t]);
		}
	found->lists = mean_lists(outcomes, winnow_calibration_lists(team, NULL));
	elog(DEBUG1, "winnow: dimension %g, %d rows: %g lists", effective_dim, k, found->lists);
	pfree(outcomes);
}

/* What does for every kind of filter, and a share of it to be safe; false: not known */
static bool
least_tolerances(const Tolerances *found, double share, float *tolerance)
{
	bool		known = false;

	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
	{
		double		least = MOST_TOLERATED * (1 - winnow_calibration_targets[t]);

		for (int f = 0; f < FILTERS; f++)
			if (found->largest[f][t] > 0)
			{
				known = true;
				least = Min(least, found->largest[f][t]);
			}
		tolerance[t] = (float) (least * share);
	}
	return known;
}

/* The effective dimension, from the first one down, and the tolerances of searches for ten rows with it */
static float
find_dimension(WinnowTeam *team, int nqueries, float first, Tolerances *best)
{
	float		dim = first;
	Tolerances	found;

	find_tolerances(team, nqueries, first, 10, best);
	while (dim / 2 >= LEAST_DIM)
	{
		find_tolerances(team, nqueries, dim / 2, 10, &found);
		if (found.lists >= best->lists)
			break;
		*best = found;
		dim /= 2;
	}
	return dim;
}

/* Filters that pass too few rows to be played for many are taken to be as much harder as is usual */
static void
fill_many(const Tolerances *few, Tolerances *many)
{
	for (int f = 0; f < FILTERS; f++)
		for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		{
			if (many->largest[f][t] <= 0)
				many->largest[f][t] = few->largest[f][t] * MANY_SHARE;
			many->largest[f][t] = Min(many->largest[f][t], few->largest[f][t]);
		}
}

/*
 * Set the effective dimension and the tolerances when all lists of nrows rows have been
 * written.  Where there is not enough to go by, they are left as they are.
 */
void
winnow_calibration_finish(WinnowTeam *team, double nrows, WinnowMeta *meta)
{
	Questions  *asked = palloc(sizeof(Questions));
	float		tolerance[WINNOW_RECALL_KINDS][WINNOW_RECALL_TARGETS];
	float		dim = Min(meta->dims, FIRST_DIM);
	Tolerances	found[WINNOW_RECALL_KINDS];
	int			nqueries;
	int			nlists = winnow_calibration_lists(team, NULL);

	BufFileClose(open_questions(team, asked));
	nqueries = asked->nqueries;
	pfree(asked);
	meta->calibrated_rows = 0;
	if (nlists < ENOUGH_LISTS)
		return;
	if (nlists < FEW_LISTS)
		dim = meta->effective_dim;
	dim = find_dimension(team, nqueries, dim, &found[WINNOW_FOR_10]);
	if (!least_tolerances(&found[WINNOW_FOR_10], safety[WINNOW_FOR_10], tolerance[WINNOW_FOR_10]))
		return;
	find_tolerances(team, nqueries, dim, 1, &found[WINNOW_FOR_1]);
	least_tolerances(&found[WINNOW_FOR_1], safety[WINNOW_FOR_1], tolerance[WINNOW_FOR_1]);
	for (int t = 0; t < WINNOW_RECALL_TARGETS; t++)
		tolerance[WINNOW_FOR_1][t] = Min(tolerance[WINNOW_FOR_1][t], tolerance[WINNOW_FOR_10][t] * ONE_SHARE);
	find_tolerances(team, nqueries, dim, 100, &found[WINNOW_FOR_100]);
	fill_many(&found[WINNOW_FOR_10], &found[WINNOW_FOR_100]);
	least_tolerances(&found[WINNOW_FOR_100], safety[WINNOW_FOR_100], tolerance[WINNOW_FOR_100]);
	meta->calibrated_rows = (uint64) nrows;
	meta->effective_dim = dim;
	memcpy(meta->tolerance, tolerance, sizeof(tolerance));
}
