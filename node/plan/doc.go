// Package plan decides: what a person did to the disk, what of it is recorded,
// what may be recorded as deleted, and what the disk must do to show the view.
//
// Three trees meet here. The view is what the index says the folder is; the
// disk is what was just seen of it; the base is what both last agreed on, entry
// by entry. Where disk and base differ a person changed something ([Bind],
// [Decide], [Gate]); where view and base differ the disk is behind
// ([Materialise]). Only observations are ever stored, never pending work: after
// a crash the same questions are asked again and get the same answers.
//
// The invariant to hold: nothing that this device itself did to the disk is ever
// taken for a change by a person, and nothing a person did is ever taken for our
// own. A crash between a disk operation and its base row is therefore always
// told from an edit, by comparing with the view before recording.
//
// In the flow it stands between the disk and the index, in both directions:
//
//	disk ─ Sighting ─> Bind ─> (hash) ─> Decide ─> crdt.Recorder ─> index
//	                     └─> DecideGone ─> Gate ─────┘                │
//	disk <─ operations ──────────── HoldIncoming <─ Materialise <─────┘
//
// What its caller must see to, since nothing here can:
//
//   - After a start, everything is observed once before anything received is
//     joined into the index, or before anything is materialised from it. A crash
//     may have come between a disk operation and its base row; that the disk
//     shows what the view shows is only recognised while the view still does.
//   - Directories are observed from the root down: one is listed only when its own
//     name was just bound, or when it and all above it are still the files that
//     the base knows (else what another directory holds would be taken for its).
//   - A deletion that Gate passes is recorded only when the scan or look that found
//     it has ended, the folder's marker and device being right before and after.
//   - What operations of one plan did is durable in the base before the next plan
//     is made, and before an operation that is Firm.
//   - When an observation finds an entry, or Decide gives it a place, it is no
//     longer pending as gone.
//
// The package is pure: no clock, no disk, no log, no goroutine. It never
// deletes, hashes or fetches anything and keeps no state between calls; a
// [Tally], which remembers how much was removed lately, belongs to the caller.
package plan
