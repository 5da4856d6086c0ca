package crdt

// ConflictID gives the ID of the conflict copy that [Normalize] makes of the
// version which lost under d in the entry id.
func ConflictID(id EntryID, d Dot) EntryID { return conflictID(id, id.Kind(), d) }
