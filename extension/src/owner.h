/*
 * owner.h
 *		Whose rights index expressions run with.
 */
#ifndef WINNOW_OWNER_H
#define WINNOW_OWNER_H

#include "postgres.h"

#include "nodes/nodes.h"
#include "utils/rel.h"

/* Who ran the statement */
typedef struct WinnowUser
{
	Oid			id;
	int			security;
	int			nestlevel;
} WinnowUser;

extern bool winnow_looks_names_up(Node *node, void *context);
extern bool winnow_may_run(Relation heap, Relation rel);
extern void winnow_become_owner(Relation heap, WinnowUser *user);
extern void winnow_become_user(const WinnowUser *user);

#endif							/* WINNOW_OWNER_H */
