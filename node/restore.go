package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sheaf/crdt"
	"sheaf/node/api"
	"sheaf/node/restore"
	"sheaf/replication/deposit"
	"sheaf/replication/group"
	"sheaf/replication/seal"
)

// Restore implements api.Node: it brings what relays keep at a path of the tree back to a
// directory of this device. It never replaces anything, and can be repeated: what is there
// already, whole and right, is passed over.
func (n *Node) Restore(ctx context.Context, o api.RestoreOptions) (api.Restored, error) {
	f, inside, err := n.keptAt(ctx, o.Path)
	if err != nil {
		return api.Restored{}, err
	}
	if f == nil || f == n.backupsFolder && o.Version == "" {
		return api.Restored{}, api.Errorf(api.ErrUsage, "name one, such as /Backups/laptop/Documents (`sheaf backup list`)", "%s is no file, directory or backup", o.Path)
	}
	if f.mirror != nil {
		if err := n.refreshNow(ctx, f); err != nil {
			return api.Restored{}, err
		}
	}
	list, err := n.kept(ctx, f, inside, o)
	if err != nil {
		return api.Restored{}, err
	}
	if len(list) == 0 {
		return api.Restored{}, notFound(o.Path)
	}
	to, err := n.restoreTo(f, inside, list, o.To)
	if err != nil {
		return api.Restored{}, err
	}
	return n.restoreAll(ctx, list, to)
}

// kept lists what is to be restored.
func (n *Node) kept(ctx context.Context, f *Folder, inside string, o api.RestoreOptions) ([]keptFile, error) {
	id, ok, err := f.findKept(inside)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, notFound(o.Path)
	}
	switch {
	case o.Version != "":
		return n.keptVersion(ctx, f, id, o)
	case !o.At.IsZero():
		return n.keptThen(ctx, f, id, o.At)
	}
	return n.keptNow(ctx, f, id)
}

// keptVersion finds one version of a file.
func (n *Node) keptVersion(ctx context.Context, f *Folder, id crdt.EntryID, o api.RestoreOptions) (list []keptFile, err error) {
	err = n.atRelays(ctx, func(_ *relayLink, c *deposit.Client, box *seal.Box, state *group.State) error {
		versions, err := versionsOf(ctx, c, box, state, f.id, id)
		if err != nil {
			return err
		}
		var found []keptVersion
		for _, v := range versions {
			if strings.HasPrefix(v.id, strings.ToLower(o.Version)) {
				found = append(found, v)
			}
		}
		if len(found) != 1 {
			return api.Errorf(api.ErrNotFound, "see `sheaf history "+o.Path+"`", "%d versions of %s are named %q", len(found), o.Path, o.Version)
		}
		k := keptFile{path: ".", entry: found[0].Entry}
		if k.entry.Kind == crdt.File {
			k.parts, k.err = partsTold(found[0].Told)
		}
		list = []keptFile{k}
		return nil
	})
	return list, err
}

// restoreTo says where on this disk things go: for a directory, the directory that
// becomes it; for a file, the file.
func (n *Node) restoreTo(f *Folder, inside string, list []keptFile, to string) (string, error) {
	single := len(list) == 1 && list[0].path == "." && list[0].entry.Kind != crdt.Directory
	if to == "" {
		if f.root == "" {
			return "", api.Errorf(api.ErrUsage, "say where it is to go with --to", "%s has no place on this device", f.treePath(inside))
		}
		return filepath.Join(f.root, filepath.FromSlash(inside)), nil
	}
	if strings.HasPrefix(to, "/") {
		// A path in the tree that is on this disk.
		for _, x := range n.diskFolders() {
			top := x.treePath(".")
			if rest, ok := strings.CutPrefix(to+"/", top+"/"); ok {
				to = filepath.Join(x.root, filepath.FromSlash(rest))
				break
			}
		}
	}
	if !filepath.IsAbs(to) {
		return "", api.Errorf(api.ErrUsage, "give a full path", "%q is not absolute", to)
	}
	if single {
		name := path.Base(f.treePath(inside))
		if info, err := os.Stat(to); err == nil && info.IsDir() {
			return filepath.Join(to, name), nil
		}
	}
	return to, nil
}

// restoreAll writes things below a place.
func (n *Node) restoreAll(ctx context.Context, list []keptFile, to string) (out api.Restored, err error) {
	out = api.Restored{To: to, Problems: []api.Problem{}}
	w, err := restore.New(to)
	if err != nil {
		return out, api.Errorf(api.ErrFailed, "give another place with --to", "nothing can be written to %s: %w", to, err)
	}
	defer func() {
		if cerr := w.Close(); err == nil {
			err = cerr
		}
	}()
	fail := func(k keptFile, err error) {
		out.Problems = append(out.Problems, api.Problem{Path: k.path, What: err.Error(), Remedy: "run the same command again once that is mended: what is there already is passed over"})
	}
	var files []keptFile
	for _, k := range list {
		switch k.entry.Kind {
		case crdt.Directory:
			if err := w.Directory(k.path, k.entry.Mode()); err != nil {
				fail(k, err)
				continue
			}
			out.Directories++
		case crdt.Symlink:
			made, err := w.Symlink(k.path, k.entry.Shown().Target, time.Unix(0, k.entry.MTime()))
			if err != nil {
				fail(k, err)
				continue
			}
			count(&out, made, 0)
		default:
			files = append(files, k)
		}
	}
	for len(files) > 0 {
		if files, err = n.restoreFrom(ctx, w, files, &out, fail); err != nil {
			return out, err
		}
	}
	if err := w.Finish(); err != nil {
		return out, err
	}
	n.log.Info("restored", "to", to, "files", out.Files, "bytes", out.Bytes, "there", out.There, "problems", len(out.Problems))
	return out, nil
}

func count(out *api.Restored, made bool, bytes int64) {
	if made {
		out.Files++
		out.Bytes += bytes
	} else {
		out.There++
	}
}

// restoreFrom writes as many files as the relays that are reached can give, and gives
// those that are to be tried once more: none, once it has been tried at all relays.
func (n *Node) restoreFrom(ctx context.Context, w *restore.Writer, files []keptFile, out *api.Restored, fail func(keptFile, error)) ([]keptFile, error) {
	left := files
	why := make(map[string]error)
	err := n.atRelays(ctx, func(_ *relayLink, c *deposit.Client, box *seal.Box, _ *group.State) error {
		var rest []keptFile
		from := &ahead{ctx: ctx, c: c, box: box}
		for _, k := range left {
			from.parts = append(from.parts, k.parts...)
		}
		defer from.end()
		at := 0
		for i, k := range left {
			made, err := n.writeOne(ctx, w, from, at, k)
			at += len(k.parts)
			var io *restore.DiskError
			switch {
			case err == nil:
				count(out, made, k.entry.Shown().Size)
			case ctx.Err() != nil:
				return ctx.Err()
			case errors.As(err, &io) && io.Full:
				return api.Errorf(api.ErrFailed, "make room there and run the same command again: what is there already is passed over", "the disk is full: %w", err)
			case errors.As(err, &io):
				fail(k, err)
			case isMissing(err):
				why[k.path] = err
				rest = append(rest, k)
			default:
				// The stream is broken: what is left is for the next relay.
				rest = append(rest, left[i:]...)
				left = rest
				return err
			}
		}
		left = rest
		if len(left) > 0 {
			return errNextRelay
		}
		return nil
	})
	switch {
	case err == nil || len(left) == 0:
		return nil, err
	case errors.Is(err, errNextRelay) || hasErr(why, left):
		for _, k := range left {
			fail(k, why[k.path])
		}
		return nil, nil
	}
	return nil, err
}

func hasErr(why map[string]error, left []keptFile) bool {
	return !slices.ContainsFunc(left, func(k keptFile) bool { return why[k.path] == nil })
}

// isMissing tells whether a relay lacks something, or gives it wrong: another may have it.
func isMissing(err error) bool {
	var forged *deposit.ForgedError
	return errors.Is(err, deposit.ErrNotHeld) || errors.Is(err, errNoRelayHas) || errors.As(err, &forged) || errors.Is(err, group.ErrNoKey)
}

// writeOne writes one file; made is false if it is there already.
func (n *Node) writeOne(ctx context.Context, w *restore.Writer, from *ahead, at int, k keptFile) (made bool, err error) {
	if k.err != nil {
		return false, fmt.Errorf("%w: its content has not been stored", k.err)
	}
	v := k.entry.Shown()
	hashes := make([][32]byte, len(k.parts))
	sizes := make([]int, len(k.parts))
	for i, p := range k.parts {
		hashes[i], sizes[i] = p.Block.Hash, int(p.Block.Size)
	}
	want := restore.File{Path: k.path, Size: v.Size, Mode: k.entry.Mode(), MTime: time.Unix(0, k.entry.MTime()), Blocks: hashes, Sizes: sizes}
	return w.File(ctx, want, func(first int, write func([]byte) error) error {
		for i := first; i < len(k.parts); i++ {
			data, err := from.block(at + i)
			if err == nil {
				err = write(data)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// An ahead fetches blocks of many files in their order, the next ones while those before
// are being written: a relay is as far away for a small file as for a large one.
type ahead struct {
	ctx   context.Context
	c     *deposit.Client
	box   *seal.Box
	parts []deposit.Part // of all files
	cur   window
	next  chan window // the one that is being fetched; nil for none
	from  int         // where that begins
}

// A window is a run of blocks that were fetched.
type window struct {
	from int
	data [][]byte
	errs []error
	err  error // of the stream
}

// Bounds of a window.
const (
	windowBlocks = 256
	windowSize   = 8 << 20
)

// fetch fetches the blocks from one on.
func (a *ahead) fetch(from int) (w window) {
	w.from = from
	size := 0
	to := from
	for to < len(a.parts) && to-from < windowBlocks && (to == from || size+int(a.parts[to].Block.Size) <= windowSize) {
		size += int(a.parts[to].Block.Size)
		to++
	}
	for at := from; at < to; {
		ask := make([]seal.Digest, 0, to-at)
		for _, p := range a.parts[at:to] {
			ask = append(ask, p.Ref.Digest)
		}
		got, err := a.c.Fetch(a.ctx, ask)
		if err != nil {
			w.err = err
			return w
		}
		for i, f := range got {
			p := a.parts[at+i]
			var plain []byte
			err := f.Err
			if err == nil {
				if plain, err = a.box.OpenBlock(nil, f.Data, p.Ref.Epoch, p.Block); err != nil && !errors.Is(err, group.ErrNoKey) {
					err = &deposit.ForgedError{What: "a block", Err: err}
				}
			}
			w.data, w.errs = append(w.data, plain), append(w.errs, err)
		}
		at += len(got)
	}
	return w
}

// block gives one block, and has those after it fetched.
func (a *ahead) block(at int) ([]byte, error) {
	if at < a.cur.from || at >= a.cur.from+len(a.cur.data) {
		if a.next != nil && a.from == at {
			a.cur, a.next = <-a.next, nil
		} else {
			a.end()
			a.cur = a.fetch(at)
		}
		if a.cur.err != nil {
			return nil, a.cur.err
		}
		if a.from = at + len(a.cur.data); a.from < len(a.parts) {
			next, from := make(chan window, 1), a.from
			a.next = next
			go func() { next <- a.fetch(from) }() // waited for by end
		}
	}
	i := at - a.cur.from
	return a.cur.data[i], a.cur.errs[i]
}

// end waits for what is being fetched.
func (a *ahead) end() {
	if a.next != nil {
		<-a.next
		a.next = nil
	}
}
