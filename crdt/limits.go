package crdt

// What one entry, name or batch may be at most. Whatever comes from outside is
// held against these before anything is stored.
const (
	MaxEncoded   = 64 << 10 // bytes of an encoded entry
	MaxNameBytes = 255      // bytes of a name
	MaxReplicas  = 64       // replicas in one entry's vector
	MaxBatch     = 1000     // entries in one batch from elsewhere
	MaxTarget    = 4096     // bytes of a symbolic link's target
	MaxAuthor    = 255      // bytes of an author's label
	MaxMode      = 0o7777   // greatest Attrs.Mode

	// MaxDepth is how deep in the tree a local change may put something: a
	// child of the root has depth one. See [Recorder].
	MaxDepth = 256

	// MaxChain is the depth at which [Apply] refuses a batch. It lies well above
	// MaxDepth on purpose: two people may each rightly move a deep tree into
	// another, and the sum, which nobody made, must not stop them from meeting.
	// What passes MaxChain was built to do harm.
	MaxChain = 4 * MaxDepth

	// MaxCount is the greatest Count of a Stamp. Writers stop there instead of
	// wrapping around, so that a hostile Count cannot make later ones small.
	MaxCount = 1 << 62
)
