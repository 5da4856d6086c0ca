package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sheaf/crdt"
	"sheaf/node/mesh"
	"sheaf/node/store"
	"sheaf/replication/wire"
)

// A person is asked about a mass change once, on whichever device it was held.
// Their word goes from device to device: a list of entries that may be deleted
// or rewritten although they are many. A device that has not heard it asks again,
// which is the safe side.

// wordProtocol carries words to a peer: what this device knows, in messages, to
// the end of the stream.
const wordProtocol = "/sheaf/word/1"

// A word lets a held change happen.
type word struct {
	_       struct{}      `cbor:",toarray"`
	Folder  crdt.FolderID `json:"folder"`
	ID      string        `json:"id"`
	At      int64         `json:"at" cbor:"-"`  // Unix seconds, by this device's clock
	Age     int64         `json:"-" cbor:"age"` // seconds, on the way between devices: their clocks may differ
	Entries []crdt.EntryID
}

// over tells whether a word is too old to be in force; one that was said far in
// the future was said by another clock.
func (w word) over() bool { return w.age().Abs() > wordKept }

func (w word) age() time.Duration { return time.Since(time.Unix(w.At, 0)) }

const (
	wordKept    = 7 * 24 * time.Hour // longer than a device is asleep, shorter than people forget
	maxWordSize = 4 << 20
	maxWordIDs  = 100_000
	maxWords    = 64 // of one folder
	wordSpace   = "word"
)

// keepWord remembers a word and tells whether it is new.
func (n *Node) keepWord(w word) (bool, error) {
	f := n.folder(w.Folder)
	if f == nil || w.ID == "" || len(w.ID) > 64 || len(w.Entries) > maxWordIDs || w.over() {
		return false, nil
	}
	key := w.Folder.String() + "/" + w.ID
	if _, known, err := n.db.Get(wordSpace, key); err != nil || known {
		return false, err
	}
	words, err := n.words()
	if err != nil || len(words) >= maxWords {
		return false, err
	}
	data, err := json.Marshal(w)
	if err != nil {
		return false, err
	}
	if err := n.db.Put(wordSpace, key, data); err != nil {
		return false, err
	}
	f.hearWord(w)
	return true, nil
}

// words gives those still in force, and lets go of the others.
func (n *Node) words() (list []word, err error) {
	var old []string
	err = n.db.Each(wordSpace, func(key string, value []byte) error {
		var w word
		if err := json.Unmarshal(value, &w); err != nil {
			return fmt.Errorf("read a word: %w", err)
		}
		if w.over() {
			old = append(old, key)
			return nil
		}
		list = append(list, w)
		return nil
	})
	for _, key := range old {
		if derr := n.db.Delete(wordSpace, key); err == nil {
			err = derr
		}
	}
	return list, err
}

// A note is one message of the protocol: a word, or whose replicas there are
// (which is for people: moves and deletions carry a replica and no name).
type note struct {
	Word     *word             `cbor:"0,keyasint,omitempty"`
	Replicas map[string]string `cbor:"1,keyasint,omitempty"` // names by ID, hex
}

// sayWords tells a peer all words in force.
func (n *Node) sayWords(ctx context.Context, peer mesh.DeviceID) {
	words, err := n.words()
	if err != nil {
		n.log.Warn("pass on what was released", "err", err)
		return
	}
	notes := []note{{Replicas: n.replicas.known()}}
	for _, w := range words {
		w.Age = max(0, int64(w.age()/time.Second))
		notes = append(notes, note{Word: &w})
	}
	s, err := n.mesh.Open(ctx, peer, wordProtocol)
	if err != nil {
		n.log.Debug("pass on what was released", "err", err)
		return
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	for _, m := range notes {
		if err := s.SetWriteDeadline(time.Now().Add(messageTimeout)); err != nil {
			break
		}
		if err := wire.WriteMsg(s, m, maxWordSize); err != nil {
			_ = s.Reset()
			return
		}
	}
	_ = s.Close()
}

// serveWords hears a peer's words, and passes on what is new.
func (n *Node) serveWords(ctx context.Context, peer mesh.DeviceID, s mesh.Stream) {
	if n.isRelay(peer) {
		_ = s.Reset() // it has no say
		return
	}
	r := bufio.NewReader(s)
	news := false
	for range maxWords + 1 {
		if err := s.SetReadDeadline(time.Now().Add(messageTimeout)); err != nil {
			break
		}
		var m note
		if err := wire.ReadMsg(r, &m, maxWordSize); err != nil {
			break // the end, or somebody who does not keep to the form
		}
		n.replicas.hear(m.Replicas)
		if m.Word == nil {
			continue
		}
		m.Word.At = time.Now().Unix() - max(0, m.Word.Age)
		added, err := n.keepWord(*m.Word)
		if err != nil {
			n.log.Warn("remember what was released", "err", err)
			break
		}
		news = news || added
	}
	_ = s.Close()
	if news {
		n.passOn(ctx, peer)
	}
}

// passOn tells all connected peers but one.
func (n *Node) passOn(ctx context.Context, but mesh.DeviceID) {
	for _, peer := range n.connectedPeers() {
		if mesh.DeviceID(peer) != but {
			n.sayWords(ctx, mesh.DeviceID(peer))
		}
	}
}

// hearWord takes a word into force. Any goroutine may call it.
func (f *Folder) hearWord(w word) {
	f.mu.Lock()
	for _, id := range w.Entries {
		f.let[id] = true
	}
	f.mu.Unlock()
	f.rejudge.Store(true)
	f.kick()
}

// isLet tells whether a person has let an incoming change of an entry happen.
func (f *Folder) isLet(id crdt.EntryID) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.let[id]
}

// wordOf makes a word of a hold that was released: all that goes with it.
func (f *Folder) wordOf(h *holdRecord) (w word, err error) {
	w = word{Folder: f.id, ID: h.ID + "-" + f.index.Replica().String()[:8], At: f.o.clock().Unix()}
	err = f.index.Read(func(r *store.Reader) error {
		for _, id := range h.Entries {
			ids := []crdt.EntryID{id}
			if !h.Incoming {
				if ids, err = descendants(r, id); err != nil {
					return err
				}
			}
			if w.Entries = append(w.Entries, ids...); len(w.Entries) > maxWordIDs {
				w.Entries = w.Entries[:maxWordIDs]
				return nil
			}
		}
		return nil
	})
	return w, err
}
