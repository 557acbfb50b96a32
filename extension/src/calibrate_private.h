/*
 * calibrate_private.h
 *		What a calibration knows; for calibrate.c and calibrate_play.c alone.
 */
#ifndef WINNOW_CALIBRATE_PRIVATE_H
#define WINNOW_CALIBRATE_PRIVATE_H

#include "cluster.h"

/* Queries, neighbours that are played for, and neighbours that are kept */
#define QUERIES 128
#define K 10
#define KEPT 100

/* Kinds of filters, see calibrate.c */
#define FILTERS 6

/* Tolerances that are tried: a geometric series from the largest down */
#define STEPS 128
#define LARGEST 3.0
#define STEP 0.91

typedef struct Neighbour
{
	float		score;
	uint64		list;			/* key of the list's node */
} Neighbour;

/* The worst on top; which of equals is kept must not depend on when they came */
static inline bool
neighbour_before(const Neighbour *a, const Neighbour *b)
{
	return a->score > b->score || (a->score == b->score && a->list > b->list);
}

WINNOW_HEAP(neighbours, Neighbour, neighbour_before)

/* What is asked of every row; in a file, with mean and queries behind it */
typedef struct Questions
{
	int			nqueries;		/* 0: there are not enough rows */
	uint64		key[QUERIES];	/* rows that are the queries */
	float		query2[QUERIES];	/* their squared lengths */
	int			other[FILTERS][QUERIES];	/* of filters near a query: which one */
	float		radius2[FILTERS][QUERIES];	/* and how near */
} Questions;

/* What is noted of every list; in a file per part */
typedef struct ListNotes
{
	WinnowChildStats stats;
	float		spread;			/* squared distance of the centroid to the mean */
	float		centroid[QUERIES];	/* its scores */
	uint16		passed[FILTERS][QUERIES];	/* rows that pass */
} ListNotes;

struct WinnowCalibration
{
	WinnowTeam *team;
	const WinnowIndex *index;
	Questions	asked;
	float	   *queries;
	float	   *mean;			/* of the sample */
	float	   *distance2;		/* of a row to every query */
	double		stray[QUERIES]; /* rows elsewhere that pass a filter near a query, as a share */
	neighbours_heap nearest[FILTERS][QUERIES];
	ListNotes	notes;
	BufFile    *file;			/* of the part that is being written */

	/* while searches are played, for the queries from "first" on */
	int			nlists;
	int			first;
	int			nplayed;
	WinnowChildStats *stats;
	float	   *spread;
	float	   *centroids;		/* scores of every list's centroid, a query after the other */
	uint16	   *passed[FILTERS];	/* likewise */
};

/* What a search played through adds up to, by filter and tolerance */
typedef struct Outcome
{
	double		recall[STEPS];
	int			count;
} Outcome;

/* calibrate_play.c */
extern void winnow_calibration_play(WinnowCalibration *calibration, float effective_dim,
									Outcome *outcomes);

#endif							/* WINNOW_CALIBRATE_PRIVATE_H */
