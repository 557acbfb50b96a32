/*
 * mean.h
 *		Means that a few rows cannot drag away.
 *
 * A row is an outlier if its squared distance from the mean of the others is more
 * than WINNOW_FAR times that of seven eighths of them, or WINNOW_VERY_FAR times that of
 * three quarters.  One row a million times as long as the others would put the mean of a thousand
 * where no row is, and codes relative to it would say nothing.  A list of few rows may have more than
 * an eighth of such; but a quarter that is just ten times as far may as well be a cluster.
 *
 * A row may stand for many around it: weights[i] > 0 of them, at a mean squared distance of
 * within[i] from it, which counts as distance from the mean.  NULL: one, and none.
 *
 * Vectors are finite floats; distances are computed in double where floats do
 * not have room for them.  The caller supplies all memory.
 */
#ifndef WINNOW_MEAN_H
#define WINNOW_MEAN_H

/* Ten times as far, and a thousand */
#define WINNOW_FAR 100.0
#define WINNOW_VERY_FAR 1e6

/* Outliers may be that share of the weight of all, and those that are very far */
#define WINNOW_OUTLIERS 0.125
#define WINNOW_MOST_OUTLIERS 0.25

/*
 * The squared distance beyond which rows are outliers, given those of n >= 1 rows
 * from their mean.  scratch: 2 n doubles.
 */
extern double winnow_far(const double *squared, const double *weights, const double *within,
						 int n, double *scratch);

/* How many of n squared distances are beyond that */
extern int	winnow_count_beyond(const double *squared, int n, double far);

/*
 * The mean of n >= 1 rows of dim floats without the outliers: the rows whose squared
 * distance from it, squared[i], is greater than the result.  INFINITY: that of all rows.
 *
 * mean: dim floats out; squared: n doubles out; scratch: 2 n + dim doubles.
 */
extern double winnow_mean(const float *rows, const double *weights, const double *within, int n,
						  int dim, float *mean, double *squared, double *scratch);

#endif							/* WINNOW_MEAN_H */
