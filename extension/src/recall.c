/*
 * recall.c
 *		When to stop: which share of the k best rows may the lists that have not
 *		been read still hold?
 *
 * Two estimates, which fail on different queries: the larger one counts.  A
 * search stops when it is within the tolerance that calibrate.c found for the
 * wanted recall, which grows with the number of lists read: a query that has
 * needed many will need as many again to find what is missing, and the same
 * effort finds more for other queries.  So the mean recall is had for the least
 * reading, and no query reads most of the lists for its last row.  Beyond 1.5
 * times the usual number of lists it grows faster, with the cube; where few lists
 * are left, it falls.  Both
 * estimates take the space to be isotropic with d dimensions; as the tolerance
 * makes up for the level of the estimates, the same d does for most data.  r is
 * the score of the k-th best row found.
 *
 * By rows.  The scores of the rows of a list around centroid c, seen from the
 * query q, are taken to be normally distributed.  For squared distances, with
 * g = |q - c| and R^2 the list's mean squared residual, their mean is g^2 + R^2
 * and their standard deviation 2 g R / sqrt(d), or of an inner node 2 R sqrt((g^2 + R^2 / 2) / d), as R is large
 * beside g there; for inner products the mean is -<q, c>, the deviation |q| R / sqrt(d), and the row that is the
 * farthest from c has a deviation of its own, as long rows are what is looked for.  The number of better rows that match
 * is expected to be the sum over the lists not read of
 *		rows * (share of rows that pass the filter) * Phi((r - mean) / deviation).
 * The share is that of the lists read, or more, if the planner expects more.
 * This holds under filters, where r is large; without one it stops too early,
 * because the nearest neighbours of a point are not where the bulk of the rows
 * would put them.
 *
 * By volume (Quake's adaptive partition scanning, Mohoney et al., OSDI 2025).  If
 * c0 is the centroid of the best list, what list c may hold of the ball of squared
 * radius r around q is beyond the plane between c0 and c, whose distance from q is
 *		h = (|q - c|^2 - |q - c0|^2) / (2 |c - c0|).
 * The share of a d-dimensional ball beyond a plane is about
 * Phi(-h sqrt(d + 2) / sqrt(r)).  What is missing is the share of the lists not
 * read in the sum over all lists that can hold a match.  |c - c0|^2 is taken to be the
 * sum of the squared distances of c and c0 to the root's centroid.  This holds
 * where the filter is independent of the vector or absent.  Inner products have
 * no ball; they get that of rows which all have the mean length X of the rows:
 * |q - x|^2 = |q|^2 + X^2 - 2 <q, x>.
 *
 * What the lists read have held says how far the estimate by volume is off for
 * the query at hand: the nearest rows of most are in few lists, of some in many.
 * Of the k best so far, those in late lists (all but the first quarter) are
 * compared with what their part of the ball would have, and the estimate is
 * scaled by that, as in Bayes' rule for the rate of a Poisson process, with a
 * prior worth a tenth of these rows, or one.
 */
#include "postgres.h"

#include "calibrate.h"

#include <math.h>

#include "kernels/kernels.h"

/*
 * Of the rows that may be missed, the share left to the bounds of codes.  They
 * are such that a row just at the threshold is lost with the whole probability:
 * most of the best are further inside, and no more than that share is lost.
 */
#define CODE_SHARE 0.2

/* The tolerance is that of a search that has read so many lists */
#define TOLERANCE_LISTS 32

/*
 * Lists usually read of n at a recall of .95, for k rows of the m that match:
 *		15 n^0.05 k^0.27 + 1.1 n sqrt(k / m)
 * For other recalls, that times log(1 - recall) / log(0.05).
 */
#define LISTS_FACTOR	15.0
#define LISTS_EXPONENT	0.05
#define ROWS_EXPONENT	0.27
#define WANTED_FACTOR	1.1
#define RECALL_BASE		0.05

/* A search is long that has read so many times the usual number of lists */
#define LONG_SEARCH 1.5

/*
 * A search that has read many lists would have to read as many again for what is missing.  Not where few are left that
 * have a match: no more count than the square of their number over this
 */
#define FEW_LEFT 16

/* The filter passes no more than so many times the rows in lists not read that it does in others */
#define MOST_ABOVE 16

/* Late lists are those read after the first of so many parts */
#define LATE_PARTS 4

/* So many of the best nodes are asked first whether they may hold too much */
#define FIRST_NODES 32

/* Look again when that share more lists have been read */
#define CHECK_GROWTH 0.08

/*
 * From so many dimensions on the errors of codes count in full, below in proportion: those of a few bits are neither
 * normal nor as large as their formula says
 */
#define ERROR_DIMS 64.0f

/* An error of so many standard deviations of the ball changes a share by a twentieth at most */
#define LITTLE_ERROR 0.3f

/* Beyond so many times the rows that there were at the calibration, growth changes nothing any more */
#define MOST_GROWTH 16

/* Steps per unit and range of the table of the normal distribution */
#define PHI_STEPS	32
#define PHI_RANGE	6

static float phi_table[2 * PHI_RANGE * PHI_STEPS + 1];

/* How many deviations the best of n rows lies below the mean, for lists */
static float best_of[WINNOW_MAX_LIST_SIZE + 1];

/* The best of n normal deviates lies about so far below the mean */
static inline float
expected_best(float n)
{
	return sqrtf(2 * logf(n));
}

static void
tables_init(void)
{
	if (phi_table[PHI_RANGE * PHI_STEPS] > 0)
		return;
	for (int i = 0; i < (int) lengthof(phi_table); i++)
	{
		double		z = (double) i / PHI_STEPS - PHI_RANGE;

		phi_table[i] = (float) (0.5 * erfc(-z / M_SQRT2));
	}
	for (int n = 1; n < (int) lengthof(best_of); n++)
		best_of[n] = expected_best(n);
}

/* The normal distribution function */
static inline float
phi(float z)
{
	if (!(z > -PHI_RANGE))
		return 0;
	if (z >= PHI_RANGE)
		return 1;
	return phi_table[(int) ((z + PHI_RANGE) * PHI_STEPS + 0.5f)];
}

/* The z that a normal deviate exceeds with the given probability; 0 if it is above 1/2 */
static double
normal_quantile(double probability)
{
	double		low = 0;
	double		high = 6;

	for (int i = 0; i < 40; i++)
	{
		double		middle = (low + high) / 2;

		if (0.5 * erfc(middle / M_SQRT2) > probability)
			low = middle;
		else
			high = middle;
	}
	return low;
}

/* Of the rows that may be missed at a target, the share that codes may cost */
double
winnow_recall_code_share(double target)
{
	return CODE_SHARE * (1 - target);
}

/* The tolerance of a search for k rows, from those that are kept */
static double
tolerance_for(const double *tolerance, double k)
{
	double		tens = log10(Max(k, 1));

	if (tens >= 2)
		return tolerance[WINNOW_FOR_100] * pow(k / 100, -WINNOW_MORE_ROWS);
	if (tens >= 1)
		return tolerance[WINNOW_FOR_10] * pow(tolerance[WINNOW_FOR_100] / tolerance[WINNOW_FOR_10], tens - 1);
	return tolerance[WINNOW_FOR_1] * pow(tolerance[WINNOW_FOR_10] / tolerance[WINNOW_FOR_1], tens);
}

/*
 * How many of n lists a search for k rows usually reads at a recall of .95, k being
 * the given share of the rows that match.
 */
double
winnow_recall_usual_lists(double n, double k, double share)
{
	return LISTS_FACTOR * pow(n, LISTS_EXPONENT) * pow(k, ROWS_EXPONENT) +
		WANTED_FACTOR * n * sqrt(share);
}

/* Lists read at another recall, relative to that */
double
winnow_recall_effort(double target)
{
	return log(1 - target) / log(RECALL_BASE);
}

/*
 * The share of the k best that may be missing when so many lists have been read,
 * where a search for the target usually reads so many
 */
double
winnow_recall_bearable(double tolerance, double nlists, double usual)
{
	double		excess = nlists / (LONG_SEARCH * usual);

	return tolerance * nlists / TOLERANCE_LISTS * (excess > 1 ? excess * excess : 1);
}

/* The query is in index space */
void
winnow_recall_init(WinnowRecall *recall, double target, const WinnowIndex *index,
				   const float *query)
{
	winnow_items_array probed = recall->probed;

	tables_init();
	memset(recall, 0, sizeof(*recall));
	recall->probed = probed;
	recall->probed.count = 0;
	recall->query2 = winnow_kernels->inner_product(query, query, index->dims);
	/* scores of a query that long are infinite: they say nothing */
	recall->exact = target >= 1 || isinf(recall->query2);
	recall->target = target;
	recall->accepted = 1;
	for (int i = 0; i < WINNOW_RECALL_KINDS; i++)
		recall->tolerance[i] = winnow_tolerance(index->tolerance[i], target);
	recall->metric = index->metric;
	recall->effective_dim = index->effective_dim;
	recall->error_share = Min(1, index->dims / ERROR_DIMS);
	recall->epsilon = recall->exact ? INFINITY :
		(float) normal_quantile(1 - target);
}

/*
 * About that many rows are in the index, which may have grown since the calibration.  Tolerances
 * are less in larger indexes.
 */
void
winnow_recall_grown(WinnowRecall *recall, const WinnowIndex *index, double nrows)
{
	double		growth = index->calibrated_rows > 0 ? Min(nrows / index->calibrated_rows, MOST_GROWTH) : 1;

	if (growth <= 1)
		return;
	for (int i = 0; i < WINNOW_RECALL_KINDS; i++)
		recall->tolerance[i] /= growth;
}

/* One over the standard deviation of scores, of which one part is how far off the estimate of their mean may be */
static inline float
inverse_deviation(float sd, float error)
{
	return sd > 0 || error > 0 ? (float) (1 / sqrt((double) sd * sd + (double) error * error)) : 1e30f;
}

/*
 * Fill in what the queue keeps of a child, given (an estimate of) its centroid's score, how far off that is,
 * and its squared distance to the root's centroid.  The error moves all rows of the list the same way: whether one of
 * them is better is more doubtful, but not where the best is expected to be.
 */
void
winnow_recall_describe(WinnowRecall *recall, float centroid_score, float error,
					   const WinnowChildStats *stats, float spread, WinnowQueueItem *item)
{
	float		dim = recall->effective_dim;
	float		square;
	float		sd;
	float		far_sd = 0;
	float		reach;

	item->rows = Max(stats->rows, 1);
	item->centroid_score = centroid_score;
	item->radius2 = Max(stats->radius2, 0);
	item->spread = spread;
	if (recall->metric == WINNOW_METRIC_IP)
	{
		item->mean = centroid_score;
		sd = sqrtf((float) recall->query2) * sqrtf(item->radius2 / dim);
		far_sd = sqrtf((float) recall->query2) * sqrtf(stats->farthest2 / dim);
	}
	else
	{
		item->mean = centroid_score + item->radius2;
		square = Max(centroid_score, 0);
		if (item->level > 0)
			square += item->radius2 / 2;
		sd = 2 * sqrtf(square) * sqrtf(item->radius2 / dim);
	}
	item->error = error * recall->error_share;
	item->inverse_sd = inverse_deviation(sd, item->error);
	reach = (stats->rows < lengthof(best_of) ? best_of[stats->rows] : expected_best(item->rows)) * sd;
	item->inverse_far_sd = 0;
	if (far_sd > sd)
	{
		item->inverse_far_sd = inverse_deviation(far_sd, item->error);
		reach = Max(reach, far_sd);
	}
	item->key = item->mean - reach;
	if (isnan(item->key))
		item->key = INFINITY;
	recall->unread += item->rows;
	recall->described += item->rows;
	recall->variance += item->rows * (double) (spread + item->radius2);
}

/* A list has been read, which had a match or not */
void
winnow_recall_probed(WinnowRecall *recall, const WinnowQueueItem *list, int tested,
					 int passed, bool matched)
{
	recall->nread++;
	recall->tested += tested;
	recall->passed += passed;
	recall->unread -= list->rows;

	/* lists without a match have no part in what is to be found */
	if (matched && !recall->exact)
	{
		WinnowQueueItem *probed;

		winnow_items_add(&recall->probed, *list);
		probed = &recall->probed.items[recall->probed.count - 1];
		winnow_recall_place(recall, probed, recall->probed.items);
	}
}

/* The squared distance that a score stands for */
static inline float
squared_distance(const WinnowRecall *recall, float score)
{
	double		length2;

	if (recall->metric != WINNOW_METRIC_IP)
		return score;
	length2 = recall->root2 + recall->variance / Max(recall->described, 1);
	return (float) (recall->query2 + length2 + 2 * score);
}

/* What the ball of a threshold makes of planes' distances, for ball_share */
float
winnow_recall_ball_scale(const WinnowRecall *recall, double threshold)
{
	float		radius2 = squared_distance(recall, (float) threshold);

	return sqrtf((recall->effective_dim + 2) / Max(radius2, 1e-30f));
}

/*
 * How far from the query the plane is beyond which rows are nearer to a list's centroid than
 * to that of the best list, and how far off that is
 */
void
winnow_recall_place(const WinnowRecall *recall, WinnowQueueItem *list, const WinnowQueueItem *best)
{
	float		apart = sqrtf(list->spread + best->spread);
	float		further = list->centroid_score - best->centroid_score;
	float		error = list->error;

	if (recall->metric == WINNOW_METRIC_IP)
	{
		further = 2 * further - (list->radius2 - best->radius2);
		error = 2 * error;
	}
	list->plane = apart > 0 ? further / (2 * apart) : 0;
	list->plane_error = apart > 0 ? error / (2 * apart) : 0;
}

/* Share of the ball that is expected to be beyond a list's plane */
float
winnow_recall_ball_share(const WinnowQueueItem *list, float scale)
{
	float		error = list->plane_error * scale;

	if (error < LITTLE_ERROR)
		return phi(-list->plane * scale);
	return phi((float) (-list->plane * scale / sqrt(1 + (double) error * error)));
}

/* Rows of the list, matching or not, that are expected to be better than that */
float
winnow_recall_better_rows(const WinnowQueueItem *list, float threshold)
{
	float		rows = list->rows * phi((threshold - list->mean) * list->inverse_sd);

	if (list->inverse_far_sd > 0)
		rows += phi((threshold - list->mean) * list->inverse_far_sd);
	return rows;
}

/*
 * The share of the rows of lists not read that pass the filter: that of the lists
 * read; or what is left of the rows that are expected to match, if that makes more.
 * So it does where a filter passes rows that are far from the query: the lists that
 * were read have few of them.  Expectations may be wrong, so there is a limit.
 */
double
winnow_recall_pass_rate(double passed, double tested, double expected, double unread)
{
	double		rate = (passed + 1) / (tested + 1);
	double		left = Max(expected - passed, 0) / Max(unread, 1);

	return Min(Max(rate, Min(left, MOST_ABOVE * rate)), 1);
}

/* Is it worth asking again whether enough has been read? */
bool
winnow_recall_due(const WinnowRecall *recall)
{
	return !recall->exact && recall->probed.count > 0 &&
		recall->nread >= recall->next_check;
}

/* Of so many lists read, the first one that counts as late */
Size
winnow_recall_late(Size nlists)
{
	return nlists / LATE_PARTS;
}

/* Rows that the belief in the estimate by volume is worth */
static double
prior_hits(double k)
{
	return Max(k / 10, 1);
}

/*
 * The share of the k best that is still to be found, by volume: hits is the number
 * of them that are in late lists, late the part of the ball that these may hold,
 * have that of all lists read, lack that of the others.
 */
double
winnow_recall_missing(double hits, double late, double have, double lack, double k)
{
	double		whole = have + lack;
	double		prior = prior_hits(k);

	return lack / whole * (hits + prior) / (late / whole * k + prior);
}

/* What a node not yet read adds to an estimate, given a threshold or the scale that goes with it */
typedef float (*NodeTerm) (const WinnowQueueItem *node, float argument);

/*
 * Is the sum of the terms of the nodes not yet read within what is allowed?  The best nodes
 * answer most of the time.  All are looked at in the order in which they lie.
 */
static inline bool
is_within(const WinnowQueue *queue, NodeTerm term, float argument, double allowed)
{
	const WinnowQueueItem *items = queue->items.items;
	const winnow_entries_heap *heaps[] = {&queue->inner, &queue->lists};
	double		sum = 0;

	for (int h = 0; h < (int) lengthof(heaps); h++)
		for (Size i = 0; i < heaps[h]->count && i < FIRST_NODES; i++)
			sum += term(&items[heaps[h]->items[i].item], argument);
	if (sum > allowed)
		return false;
	sum = 0;
	for (Size i = 0; i < queue->items.count && sum <= allowed; i++)
		if (items[i].unread)
			sum += term(&items[i], argument);
	return sum <= allowed;
}

static bool
reached_by_rows(const WinnowQueue *unread, double threshold, double k, double pass_rate,
				double bearable)
{
	return is_within(unread, winnow_recall_better_rows, (float) threshold,
					 bearable * k / pass_rate);
}

static bool
reached_by_volume(const WinnowRecall *recall, WinnowQueue *unread, double threshold,
				  double k, double hits, double bearable)
{
	const WinnowQueueItem *lists = recall->probed.items;
	Size		nlists = recall->probed.count;
	float		scale = winnow_recall_ball_scale(recall, threshold);
	double		prior = prior_hits(k);
	double		have = 0;
	double		late = 0;
	double		allowed;
	double		divisor = hits + prior * (1 - bearable);

	if (divisor <= 0)
		return true;
	for (Size i = 0; i < nlists; i++)
	{
		double		share = i == 0 ? 1 : winnow_recall_ball_share(&lists[i], scale);

		have += share;
		if (i >= winnow_recall_late(nlists))
			late += share;
	}

	/* what is lacking, if winnow_recall_missing is to be within what is bearable */
	allowed = bearable * (late * k + prior * have) / divisor;
	for (; unread->nplanes < unread->items.count; unread->nplanes++)
		winnow_recall_place(recall, &unread->items.items[unread->nplanes], &lists[0]);
	return is_within(unread, winnow_recall_ball_share, scale, allowed);
}

/*
 * Has enough been read for the k best?  threshold is the score of the k-th
 * best found.  Of nbest of them (where the others have been returned already) so
 * many as hits were in late lists.
 */
bool
winnow_recall_reached(WinnowRecall *recall, WinnowQueue *unread, double threshold,
					  int64 k, int64 nbest, int64 hits)
{
	Size		nlists = recall->probed.count;
	double		rows = recall->tested + Max(recall->unread, 0);
	double		pass_rate = winnow_recall_pass_rate(recall->passed * recall->accepted, recall->tested,
													recall->expected, recall->unread);
	double		matching = rows / recall->tested * nlists;	/* lists with a match, read or not */
	double		usual = winnow_recall_usual_lists(matching, (double) k,
												  Min(k / (rows * pass_rate), 1));
	double		left = matching - (double) nlists;
	double		bearable = winnow_recall_bearable(tolerance_for(recall->tolerance, (double) k),
												 Min((double) nlists, left * left / FEW_LEFT),
												 usual * winnow_recall_effort(recall->target));

	recall->next_check = recall->nread + 1 + floor(CHECK_GROWTH * recall->nread);

	/* the estimate that said no the last time first: most say it again */
	if (recall->volume_last)
	{
		if (!reached_by_volume(recall, unread, threshold, (double) nbest, (double) hits, bearable))
			return false;
		recall->volume_last = false;
		return reached_by_rows(unread, threshold, (double) k, pass_rate, bearable);
	}
	if (!reached_by_rows(unread, threshold, (double) k, pass_rate, bearable))
		return false;
	recall->volume_last = true;
	return reached_by_volume(recall, unread, threshold, (double) nbest, (double) hits, bearable);
}
