/*
 * quantize.h
 *		One bit per dimension: RaBitQ codes, and score estimates from them.
 *
 * Gao and Long, "RaBitQ: Quantizing High-Dimensional Vectors with a Theoretical
 * Error Bound for Approximate Nearest Neighbor Search", SIGMOD 2024.
 *
 * A row x is stored relative to the centroid c of its list: r = |x - c|, the
 * signs of the residual, and how well those signs point its way.  With
 * D = dim, o = (x - c) / r and obar = (2 * bit - 1) / sqrt(D), both unit
 * vectors, the code record is
 *
 *		float norm			r
 *		float align			t = <obar, o>, between 1 / sqrt(D) and 1
 *		uint64 bits[]		ceil(D / 64) words, padding bits zero
 *
 * A query is quantised to four bits per dimension, so that <obar, query> is a
 * sum of popcounts.  quantize.c derives the estimates and their bounds.
 *
 * Every vector here is already rotated (rotate.h); the bounds allow for the
 * rounding of the rotation, so they hold for the scores of the vectors as they
 * were before it.  Cosine distance is the caller's affair: it normalises the
 * vectors and uses WINNOW_METRIC_COSINE, which is treated as L2.
 */
#ifndef WINNOW_QUANTIZE_H
#define WINNOW_QUANTIZE_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>

typedef enum WinnowMetric
{
	WINNOW_METRIC_L2 = 1,		/* score: squared distance */
	WINNOW_METRIC_IP = 2,		/* score: inner product, negated */
	WINNOW_METRIC_COSINE = 3	/* as L2, between unit vectors */
} WinnowMetric;

/* Bytes of the head of a code record, before its bits. */
#define WINNOW_CODE_HEAD 8

static inline int
winnow_code_words(int dim)
{
	return (dim + 63) / 64;
}

/* Bytes of a code record. */
static inline size_t
winnow_code_bytes(int dim)
{
	return WINNOW_CODE_HEAD + (size_t) winnow_code_words(dim) * sizeof(uint64_t);
}

/*
 * Rows farther than that from their centroid, queries with such an element, and
 * lists whose centroid is half as long are beyond what is known.  An element that
 * the rotation has cut off at FLT_MAX is always beyond one of these: if the
 * centroid's is no more than a quarter of it, what remains is more than a half.
 */
#define WINNOW_MOST_KNOWN (FLT_MAX / 2)

/*
 * Encode row x in the list of `centroid`, dim >= 1 floats each, into
 * winnow_code_bytes(dim) bytes at code, which need no alignment.  A row beyond
 * the range of float gets an infinite norm: nothing is known of its score.
 */
extern void winnow_encode(const float *x, const float *centroid, int dim,
						  uint8_t *code);

/* A query against one list.  Members without a comment are quantize.c's own. */
typedef struct WinnowQueryCode
{
	WinnowMetric metric;
	int			dim;
	int			nwords;			/* winnow_code_words(dim) */
	double		centroid_score; /* L2: |query - centroid|^2; IP: -<query, centroid> */
	double		span;			/* length of what was quantised: L2 |query -
								 * centroid|, IP |query|; infinite if the
								 * query is beyond the range of float */
	double		centroid_norm;	/* |centroid| */
	double		factor;			/* <obar, query> = factor * differences */
	double		offset;			/* + offset */
	double		rounding;		/* |error of that sum| at most */
	double		rounding_spread;	/* and its standard deviation */
	double		slack;			/* relative float error of a score */
	float		low;			/* what u[i] = 0 stands for: -7.5 steps */
	float		inv_step;		/* 1 / step, or 0 if there is nothing to quantise */
	double		step;			/* element i of what was quantised is about (u[i] - 7.5) steps */
	uint64_t	planes[];		/* four bit planes of nwords each; then dim floats of scratch */
} WinnowQueryCode;

/* What was quantised: dim floats */
static inline const float *
winnow_query_vector(const WinnowQueryCode *q)
{
	return (const float *) (q->planes + (size_t) 4 * q->nwords);
}

/* What refine.c shares with quantize.c */

/* Within this range sums of squares of floats neither overflow nor lose digits */
#define WINNOW_SQUARES_HOLD(squares) ((squares) > 1e-25f && (squares) < 1e37f)

/* Standard deviation of what rounding to steps of one takes off: 1 / sqrt(12) */
#define WINNOW_ROUNDING_SPREAD 0.28867513459481287

/* A double as the nearest float, infinite beyond its range and for NaN */
extern float winnow_to_float(double x);

/* |x - c| and the sum of |x - c|, where floats would overflow or lose digits */
extern void winnow_residual_sums(const float *x, const float *centroid, int dim,
								 double *norm, double *absolute);

/* How far float rounding may put the score of a row with |x - c| = r above the true one */
extern double winnow_score_slack(const WinnowQueryCode *q, double r);

/* Bytes of a WinnowQueryCode for dim >= 1. */
extern size_t winnow_query_bytes(int dim);

/*
 * Prepare `query` against the list of `centroid`, dim floats each, in
 * winnow_query_bytes(dim) bytes at q, 8-byte aligned.
 */
extern void winnow_query_prepare(WinnowQueryCode *q, WinnowMetric metric,
								 const float *query, const float *centroid,
								 int dim);

/*
 * Estimate the scores of nrows rows, the code record of row i being at
 * codes + rows[i] * stride, of the list the query was prepared for.
 *
 * estimate[i] is unbiased over random rotations; it may lie outside of the
 * possible range, such as below zero for L2.
 *
 * lower[i] bounds the score from below.  epsilon is the number of standard
 * deviations allowed for (1.9 leaves out about 3 % of random pairs);
 * INFINITY gives a bound that is never wrong.  L2 bounds are never negative.
 * Where nothing is known of a row, its lower bound is the least possible (0 or
 * -INFINITY) and its estimate is the centroid's score.
 */
extern void winnow_estimate(const WinnowQueryCode *q, const uint8_t *codes,
							size_t stride, const uint16_t *rows, int nrows,
							float epsilon, float *estimate, float *lower);

/*
 * How far off those estimates are, as standard deviations over random rotations; and the rows' distances to
 * the centroid, as encoded.  0 where nothing is known of a row.
 */
extern void winnow_estimate_errors(const WinnowQueryCode *q, const uint8_t *codes,
								   size_t stride, const uint16_t *rows, int nrows,
								   float *error, float *norm);

#endif							/* WINNOW_QUANTIZE_H */
