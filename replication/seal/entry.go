package seal

import (
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"

	"sheaf/crdt"
	"sheaf/replication/chunk"
	"sheaf/replication/group"
)

// A Draft is what is to become a record.
type Draft struct {
	Folder crdt.FolderID
	Number uint64     // see Header.Number: durable before the record leaves the process
	Entry  crdt.Entry // in normal form
	List   chunk.List // of its content, where that is more than one block
	// Refs are where the pieces of the list are (see Pieces), if it has any, then where
	// the file's blocks are, in order. A deleted entry may have neither List nor Refs:
	// whoever seals it does not know where its last content is.
	Refs []Ref
}

// An Opened is what a record says.
type Opened struct {
	Entry  crdt.Entry
	List   chunk.List // of its content; nil if it is in pieces
	Pieces chunk.List // of the list
	runs   []epochRun
	blocks int // of the content, as far as the record refers to it
}

// bodyItems is what is sealed of an entry.
type bodyItems struct {
	_      struct{} `cbor:",toarray"`
	Entry  []byte
	List   []byte // encoded, where there is one and it is short
	Length uint64 // of the encoded list, where it is long
	Pieces []byte // the hashes of its pieces, 32 bytes each
	Epochs []epochRun
}

// An epochRun says in which epoch the next Count references were sealed. Without
// any, all were in the record's.
type epochRun struct {
	_     struct{} `cbor:",toarray"`
	Epoch group.StatementID
	Count uint64
}

// SealRecord makes the record of an entry, in the current epoch, signed by keys. It
// also gives the pages of references that have to be stored with it as blocks are,
// each at the digest that the record names. It fails if the draft does not fit
// together; that is the caller's mistake.
func (b *Box) SealRecord(rand io.Reader, keys group.Keys, d Draft) (*Record, [][]byte, error) {
	epoch := b.ring.Current()
	derived, err := b.keys(epoch)
	if err != nil {
		return nil, nil, fmt.Errorf("seal a record: %w", err)
	}
	var body bodyItems
	pieces, _ := Pieces(d.List)
	switch {
	case len(pieces) > 0:
		body.Length = uint64(d.List.EncodedSize())
		for _, p := range pieces {
			body.Pieces = append(body.Pieces, p.Hash[:]...)
		}
	case len(d.List) > 1:
		body.List = d.List.Encode()
	}
	if err := d.check(len(pieces)); err != nil {
		return nil, nil, fmt.Errorf("seal a record: %w", err)
	}
	body.Entry, body.Epochs = d.Entry.Encode(nil), runsOf(epoch, d.Refs)
	h := Header{
		Group: b.group, Folder: d.Folder, Token: b.Token(d.Folder, d.Entry.ID), Epoch: epoch, Author: keys.ID(), Number: d.Number,
		Seen: d.Entry.Seen, Dead: !d.Entry.IsLive(),
	}
	digests, pages := pagesOf(d.Refs)
	if h.Pages = digests; digests == nil {
		for _, r := range d.Refs {
			h.Refs = append(h.Refs, r.Digest)
		}
	}
	head := h.encode()
	if _, err := decodeHeader(head); err != nil {
		return nil, nil, fmt.Errorf("seal a record: %w", err)
	}
	aead, err := chacha20poly1305.NewX(derived.record[:])
	if err != nil {
		return nil, nil, fmt.Errorf("seal a record: %w", err)
	}
	nonce := make([]byte, chacha20poly1305.NonceSizeX)
	if _, err := io.ReadFull(rand, nonce); err != nil {
		return nil, nil, fmt.Errorf("seal a record: draw a nonce: %w", err)
	}
	r := &Record{Header: h, head: head}
	r.box = aead.Seal(nonce, nonce, appendFrame(nil, recordVersion, encode(body)), head)
	r.sig = keys.Sign(recordContext, r.signed())
	if r.raw = encode(recordItems{Header: r.head, Box: r.box, Sig: r.sig}); len(r.raw) > MaxRecord {
		return nil, nil, fmt.Errorf("seal a record: %d bytes: %w", len(r.raw), ErrMalformed)
	}
	return r, pages, nil
}

// check tells whether list and references are those of the entry's content.
func (d *Draft) check(pieces int) error {
	size, blocks := contentOf(&d.Entry)
	if !d.Entry.IsLive() && len(d.List)+len(d.Refs) == 0 {
		return nil
	}
	if blocks > 1 && (len(d.List) != blocks || d.List.Size() != size || d.List.Content() != [32]byte(d.Entry.Shown().Content)) {
		return fmt.Errorf("the list is not that of the content: %w", ErrMalformed)
	}
	if len(d.Refs) != pieces+blocks {
		return fmt.Errorf("%d references to %d blocks and %d pieces of their list: %w", len(d.Refs), blocks, pieces, ErrMalformed)
	}
	return nil
}

// contentOf gives the size and the number of blocks of what an entry shows, or
// showed last.
func contentOf(e *crdt.Entry) (size int64, blocks int) {
	if v := e.Shown(); v != nil && e.Kind == crdt.File {
		return v.Size, int(v.Blocks)
	}
	return 0, 0
}

func runsOf(current group.StatementID, refs []Ref) (runs []epochRun) {
	if !slices.ContainsFunc(refs, func(r Ref) bool { return r.Epoch != current }) {
		return nil
	}
	for _, r := range refs {
		if n := len(runs); n > 0 && runs[n-1].Epoch == r.Epoch {
			runs[n-1].Count++
		} else {
			runs = append(runs, epochRun{Epoch: r.Epoch, Count: 1})
		}
	}
	return runs
}

// Open opens a record. What it gives is well-formed, and is what the header says:
// else the error is ErrOpen. group.ErrNoKey if the epoch's key is not in the ring.
// It does not say that the author may be believed: see Judge.
func (b *Box) Open(r *Record) (*Opened, error) {
	if r.Group != b.group {
		return nil, fmt.Errorf("open a record: %w", ErrOpen)
	}
	keys, err := b.keys(r.Epoch)
	if err != nil {
		return nil, fmt.Errorf("open a record: %w", err)
	}
	aead, err := chacha20poly1305.NewX(keys.record[:])
	if err != nil {
		return nil, fmt.Errorf("open a record: %w", err)
	}
	if len(r.box) < chacha20poly1305.NonceSizeX {
		return nil, fmt.Errorf("open a record: %w", ErrOpen)
	}
	frame, err := aead.Open(nil, r.box[:chacha20poly1305.NonceSizeX], r.box[chacha20poly1305.NonceSizeX:], r.head)
	if err != nil {
		return nil, fmt.Errorf("open a record: %w", ErrOpen)
	}
	o, ok := readBody(frame, r.Dead && len(r.Header.Refs)+len(r.Pages) == 0)
	if !ok || b.Token(r.Folder, o.Entry.ID) != r.Token || !slices.Equal(o.Entry.Seen, r.Seen) || o.Entry.IsLive() == r.Dead || !o.matches(&r.Header) {
		return nil, fmt.Errorf("open a record: %w", ErrOpen)
	}
	return o, nil
}

// readBody reads what is sealed of an entry. dangling says that the header refers to
// nothing and calls the entry dead: its content is not spoken of then.
func readBody(frame []byte, dangling bool) (*Opened, bool) {
	kind, payload, ok := openFrame(frame)
	if !ok || kind != recordVersion {
		return nil, false
	}
	var w bodyItems
	if decode("entry", payload, &w) != nil {
		return nil, false
	}
	o := &Opened{runs: w.Epochs}
	var err error
	if o.Entry, err = crdt.Decode(w.Entry); err != nil {
		return nil, false
	}
	var size int64
	size, o.blocks = contentOf(&o.Entry)
	if dangling {
		o.blocks = 0
	}
	switch {
	case len(w.List) > 0 && len(w.List) <= MaxInline && len(w.Pieces) == 0 && w.Length == 0 && o.blocks > 1:
		o.List, err = o.readList(w.List, size)
	case len(w.Pieces) > 0 && len(w.List) == 0 && o.blocks > 1:
		o.Pieces, err = readPieces(w.Pieces, w.Length)
	case len(w.List) > 0 || len(w.Pieces) > 0 || w.Length > 0 || o.blocks > 1:
		return nil, false
	case o.blocks == 1:
		if size < 1 || size > chunk.MaxBlock {
			return nil, false
		}
		o.List = chunk.List{{Hash: chunk.Hash(o.Entry.Shown().Content), Size: uint32(size)}}
	}
	return o, err == nil
}

// readList reads the list of the entry's content.
func (o *Opened) readList(data []byte, size int64) (chunk.List, error) {
	list, err := chunk.DecodeList(data, size)
	if err != nil {
		return nil, err
	}
	if len(list) != o.blocks || list.Content() != [32]byte(o.Entry.Shown().Content) {
		return nil, ErrOpen
	}
	return list, nil
}

// readPieces gives the pieces of a list: all but the last are as long as can be.
func readPieces(hashes []byte, length uint64) (pieces chunk.List, err error) {
	if length <= MaxInline || length > chunk.MaxList || uint64(len(hashes)) != sha256.Size*((length+pieceSize-1)/pieceSize) {
		return nil, ErrOpen
	}
	for ; len(hashes) > 0; hashes = hashes[sha256.Size:] {
		size := min(length, pieceSize)
		pieces = append(pieces, chunk.Block{Hash: chunk.Hash(hashes[:sha256.Size]), Size: uint32(size)})
		length -= size
	}
	return pieces, nil
}

// matches tells whether there are as many references as blocks, and an epoch for
// each.
func (o *Opened) matches(h *Header) bool {
	want := len(o.Pieces) + o.blocks
	if len(h.Pages) > 0 {
		if want <= MaxRefs || (want+PageRefs-1)/PageRefs != len(h.Pages) {
			return false
		}
	} else if want != len(h.Refs) {
		return false
	}
	if len(o.runs) == 0 {
		return true
	}
	total := uint64(0)
	for _, r := range o.runs {
		if r.Count == 0 || r.Count > uint64(want) {
			return false
		}
		total += r.Count
	}
	return total == uint64(want)
}

// Refs gives where the pieces of the list are, then where the file's blocks are. It
// takes the pages that the record names, in order: ErrOpen if they are others.
func (o *Opened) Refs(r *Record, pages ...[]byte) ([]Ref, error) {
	digests := slices.Clone(r.Header.Refs)
	if len(pages) != len(r.Pages) {
		return nil, fmt.Errorf("%d pages of references, of %d: %w", len(pages), len(r.Pages), ErrOpen)
	}
	for i, page := range pages {
		list, err := ParsePage(page)
		if err != nil || sha256.Sum256(page) != [32]byte(r.Pages[i]) {
			return nil, fmt.Errorf("page of references: %w", ErrOpen)
		}
		digests = append(digests, list...)
	}
	if len(digests) != len(o.Pieces)+o.blocks {
		return nil, fmt.Errorf("%d references: %w", len(digests), ErrOpen)
	}
	refs := make([]Ref, len(digests))
	for i, d := range digests {
		refs[i] = Ref{Digest: d, Epoch: r.Epoch}
	}
	at := 0
	for _, run := range o.runs {
		for range run.Count {
			refs[at].Epoch = run.Epoch
			at++
		}
	}
	return refs, nil
}

// Join gives the list of the content from its pieces, which have been opened:
// ErrOpen if they are others.
func (o *Opened) Join(pieces ...[]byte) (chunk.List, error) {
	size, _ := contentOf(&o.Entry)
	list, err := o.readList(slices.Concat(pieces...), size)
	if err != nil {
		return nil, fmt.Errorf("block list: %w", ErrOpen)
	}
	return list, nil
}
