/*
 * recall.c
 *		When to stop: how many of the k best rows may the lists that have not been
 *		read still hold?
 *
 * The scores of the n rows of a list around centroid c, seen from the query q,
 * are taken to be normally distributed.  For squared distances, with g = |q - c|
 * and R^2 the list's mean squared residual, their mean is g^2 + R^2 and their
 * standard deviation 2 g R / sqrt(d): the cosine of the angle between q - c and a
 * residual has variance 1/d in an isotropic space of d dimensions, and d, the
 * effective dimension, is what the data behaves like.  For inner products the
 * mean is -<q, c>, the deviation |q| R / sqrt(d).
 *
 * The expected number of matching rows nearer than the k-th found so far, in the
 * lists not read, is then the sum over lists of
 *		n * (share of rows that pass the filter) * Phi((threshold - mean) / sd).
 * The search stops when that is below the share of k that may be missed.
 */
#include "postgres.h"

#include "search.h"

#include <math.h>

/* Of the rows that may be missed, the share left to bounds of codes */
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

void
winnow_recall_init(WinnowRecall *recall, double target, float effective_dim)
{
	phi_init();
	recall->target = target;
	recall->exact = target >= 1;
	recall->effective_dim = effective_dim;
	recall->next_check = 0;
	if (recall->exact)
		recall->epsilon = INFINITY;
	else
	{
		/* one-sided normal quantile of the share that bounds may miss */
		double		miss = Max(CODE_SHARE * (1 - target), 1e-6);
		double		low = 0;
		double		high = 6;

		for (int i = 0; i < 40; i++)
		{
			double		middle = (low + high) / 2;

			if (0.5 * erfc(middle / M_SQRT2) > miss)
				low = middle;
			else
				high = middle;
		}
		recall->epsilon = (float) low;
	}
}

/*
 * Fill in what the queue keeps of a child, given (an estimate of) its
 * centroid's score and the span of the query: |q - c| for distances, |q| for
 * inner products.
 */
void
winnow_recall_item(const WinnowRecall *recall, WinnowMetric metric, float centroid_score,
				   float span, const WinnowChildStats *stats, WinnowQueueItem *item)
{
	float		radius = sqrtf(stats->radius2);
	float		sd;

	item->rows = Max(stats->rows, 1);
	if (metric == WINNOW_METRIC_IP)
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

/*
 * Has enough been read for the k best?  threshold is the score of the k-th
 * best found.
 */
bool
winnow_recall_reached(WinnowRecall *recall, const WinnowQueueItem *items, Size nitems,
					  double threshold, double pass_rate, int64 k, uint64 nprobed)
{
	double		missed = 0;
	double		allowed = (1 - CODE_SHARE) * (1 - recall->target) * k;

	if (recall->exact || nprobed < recall->next_check)
		return false;
	recall->next_check = nprobed + 1 + (uint64) (CHECK_GROWTH * nprobed);
	for (Size i = 0; i < nitems; i++)
		missed += items[i].rows *
			phi(((float) threshold - items[i].mean) * items[i].inverse_sd);
	return missed * pass_rate <= allowed;
}
