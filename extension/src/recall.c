/*
 * recall.c
 *		When to stop: how many of the k best rows may the lists that have not been
 *		read still hold?
 *
 * Two estimates, which fail on different queries; a search stops when both say
 * so.  Both take the space to be isotropic with d dimensions, the effective
 * dimension of the data.  r is the score of the k-th best row found.
 *
 * By rows.  The scores of the rows of a list around centroid c, seen from the
 * query q, are taken to be normally distributed.  For squared distances, with
 * g = |q - c| and R^2 the list's mean squared residual, their mean is g^2 + R^2
 * and their standard deviation 2 g R / sqrt(d); for inner products the mean is
 * -<q, c>, the deviation |q| R / sqrt(d).  The number of better rows that match
 * is expected to be the sum over the lists not read of
 *		rows * (share of rows that pass the filter) * Phi((r - mean) / deviation).
 * This holds under filters, where r is large; without one it stops too early,
 * because the nearest neighbours of a point are not where the bulk of the rows
 * would put them.
 *
 * By volume (Quake's adaptive partition scanning, Mohoney et al., OSDI 2025).  If
 * c0 is the centroid of the best list, what list c may hold of the ball of squared
 * radius r around q is beyond the plane between c0 and c, whose distance from q is
 *		h = (|q - c|^2 - |q - c0|^2) / (2 |c - c0|).
 * The share of a d-dimensional ball beyond a plane is about
 * Phi(-h sqrt(d + 2) / sqrt(r)).  The lists read must have the wanted share of
 * the sum over all lists that can hold a match.  |c - c0|^2 is taken to be the
 * sum of the squared distances of c and c0 to the root's centroid.  This holds
 * where the filter is independent of the vector or absent; it is not defined for
 * inner products, which have no ball.
 */
#include "postgres.h"

#include "search.h"

#include <math.h>

/* Of the rows that may be missed, the share left to the bounds of codes */
#define CODE_SHARE 0.2

/* Look again when that share more lists have been read */
#define CHECK_GROWTH 0.15

/* Steps per unit and range of the table of the normal distribution */
#define PHI_STEPS	32
#define PHI_RANGE	6

static float phi_table[2 * PHI_RANGE * PHI_STEPS + 1];

static void
phi_init(void)
{
	if (phi_table[PHI_RANGE * PHI_STEPS] > 0)
		return;
	for (int i = 0; i < (int) lengthof(phi_table); i++)
	{
		double		z = (double) i / PHI_STEPS - PHI_RANGE;

		phi_table[i] = (float) (0.5 * erfc(-z / M_SQRT2));
	}
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

/* The z that a normal deviate exceeds with the given probability < 1/2 */
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

void
winnow_recall_init(WinnowRecall *recall, double target, const WinnowIndex *index)
{
	phi_init();
	memset(recall, 0, sizeof(*recall));
	recall->target = target;
	recall->exact = target >= 1;
	recall->metric = index->metric;
	recall->effective_dim = index->effective_dim;
	recall->epsilon = recall->exact ? INFINITY :
		(float) normal_quantile(CODE_SHARE * (1 - target));
}

/*
 * Fill in what the queue keeps of a child, given (an estimate of) its
 * centroid's score and the span of the query: |q - c| for distances, |q| for
 * inner products, seen from the parent.
 */
void
winnow_recall_describe(const WinnowRecall *recall, float centroid_score, float span,
					   const WinnowChildStats *stats, WinnowQueueItem *item)
{
	float		radius = sqrtf(Max(stats->radius2, 0));
	float		sd;

	item->rows = Max(stats->rows, 1);
	item->centroid_score = centroid_score;
	if (recall->metric == WINNOW_METRIC_IP)
	{
		item->mean = centroid_score;
		sd = span * radius / sqrtf(recall->effective_dim);
	}
	else
	{
		item->mean = centroid_score + stats->radius2;
		sd = 2 * sqrtf(Max(centroid_score, 0)) * radius / sqrtf(recall->effective_dim);
	}
	item->inverse_sd = sd > 0 ? 1 / sd : 1e30f;

	/* the best of n normal deviates lies about sqrt(2 ln n) below the mean */
	item->key = item->mean - sqrtf(2 * logf(item->rows)) * sd;
	if (isnan(item->key))
		item->key = INFINITY;
}

/* A list has been read */
void
winnow_recall_probed(WinnowRecall *recall, const WinnowQueueItem *list, int tested,
					 int passed)
{
	recall->tested += tested;
	recall->passed += passed;

	/* lists without a match have no part in what is to be found */
	if (passed > 0 && !recall->exact)
		queue_add(&recall->probed, *list);
}

/* Share of the ball of squared radius r that list may hold, if c0 is the best */
static inline float
ball_share(const WinnowQueueItem *list, const WinnowQueueItem *best, float scale)
{
	float		apart = sqrtf(list->spread + best->spread);

	return apart > 0 ?
			   phi((best->centroid_score - list->centroid_score) / (2 * apart) * scale) :
			   0.5f;
}

static bool
reached_by_volume(const WinnowRecall *recall, const queue_heap *unread, double threshold)
{
	const WinnowQueueItem *best = recall->probed.items;
	float		scale = (float) sqrt((recall->effective_dim + 2) / Max(threshold, 1e-30));
	double		have = 1;
	double		lack = 0;
	double		allowed;

	for (Size i = 1; i < recall->probed.count; i++)
		have += ball_share(&recall->probed.items[i], best, scale);
	allowed = have * (1 - recall->target) / recall->target;
	for (Size i = 0; i < unread->count && lack <= allowed; i++)
		lack += ball_share(&unread->items[i], best, scale);
	return lack <= allowed;
}

static bool
reached_by_rows(const WinnowRecall *recall, const queue_heap *unread, double threshold,
				int64 k)
{
	double		pass_rate = (recall->passed + 1) / (recall->tested + 1);
	double		allowed = (1 - recall->target) * k / pass_rate;
	double		missed = 0;

	for (Size i = 0; i < unread->count && missed <= allowed; i++)
		missed += unread->items[i].rows *
			phi(((float) threshold - unread->items[i].mean) * unread->items[i].inverse_sd);
	return missed <= allowed;
}

/*
 * Has enough been read for the k best?  threshold is the score of the k-th
 * best found.
 */
bool
winnow_recall_reached(WinnowRecall *recall, const queue_heap *unread, double threshold,
					  int64 k)
{
	if (recall->exact || recall->probed.count == 0 ||
		recall->probed.count < recall->next_check)
		return false;
	recall->next_check = recall->probed.count + 1 +
		(uint64) (CHECK_GROWTH * recall->probed.count);
	return reached_by_rows(recall, unread, threshold, k) &&
		(recall->metric == WINNOW_METRIC_IP ||
		 reached_by_volume(recall, unread, threshold));
}
