// Command sheaf is a device of Sheaf: it sets one up, runs its node, and asks
// the node that runs.
//
//	init, join, up   ── package node          (this process does the work)
//	everything else  ── node/api Client ──>   the node that runs for this home
//
// There is nothing in here but flags, output and exit statuses. stdout carries
// the answer and nothing else; stderr carries the rest. Exit statuses: 0 done,
// 1 failed, 2 wrong usage, 3 the node is not running, 4 timed out, 5 refused.
// What went wrong is told in one line: what, why, and what to do.
//
// Names that came from other devices are printed so that they cannot steer a
// terminal; --json gives them as they are.
package main
