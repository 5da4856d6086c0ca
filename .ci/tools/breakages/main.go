// Command breakages breaks the program on purpose, in a copy, in ten ways that
// others have lost files by, and tells how many simulated histories it takes to
// notice each. It is a test of the tests: what is not noticed within -histories is
// an error. See docs/testing.md, whose table it prints.
//
//	breakages [-histories N] [-seed N] [-only NAME] REPOSITORY
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// An edit replaces a piece of a file, which must be there once.
type edit struct{ file, old, new string }

type breakage struct {
	name, what string
	edits      []edit
	flags      []string // of the simulation, for what happens in few histories else
}

func breakages() []breakage {
	return []breakage{
		{"join", "a clause of the join dropped: what one side deleted comes back", []edit{
			{"crdt/join.go", "if !b.Seen.Covers(x[0].Dot) {", "if n > 0 {"}}, nil},
		{"exchange", "what was displaced is not compared after the exchange", []edit{
			{"node/disk/place.go", "if err == nil && kept(j.Expect, old) {\n\t\td.trashed", "if err == nil {\n\t\td.trashed"},
			{"node/disk/place.go", "if err == nil && kept(j.old, s) {\n\t\treturn\n\t}", "if _ = s; err == nil {\n\t\treturn\n\t}"}}, nil},
		{"base-first", "a rename is in the base before it is on the disk", []edit{
			{"node/materialise.go", "\tbase.ID = op.ID\n\tif err := f.operate(", `	base.ID = op.ID
	if op.Do == plan.Rename {
		early := base
		early.At = op.To
		if err := f.index.Update(func(tx *store.Tx) error { return tx.SetBase(early) }); err != nil {
			return false, err
		}
	}
	if err := f.operate(`}}, nil},
		{"no-sync", "nothing is synced before the base says that it is there", []edit{
			{"node/disk/folder.go", "\treturn d.sync(paths...)\n}", "\t_ = paths\n\treturn d.healthy()\n}"}}, nil},
		{"cursor-first", "a peer's cursor is durable before the entries below it", []edit{
			{"node/index.go", "\terr := f.update(func(tx *store.Tx, later func(func())) error {\n\t\tcounter :=", `	if err := f.index.Update(func(tx *store.Tx) error { return tx.SetCursor(from, store.StoreID(id), b.Next) }); err != nil {
		return err
	}
	later := func(fn func()) { fn() }
	err := f.index.UpdateLazy(func(tx *store.Tx) error {
		counter :=`}}, nil},
		{"dot-twice", "a database that was set back goes on with its old replica ID", []edit{
			{"node/store/open.go", "\t\tif err := f.FreshReplica(); err != nil {", "\t\tif err := f.Sync(); err != nil {"},
			{"node/index.go", "\t\tif err := f.index.FreshReplica(); err != nil {", "\t\tif err := f.index.Sync(); err != nil {"}}, []string{"-backups"}},
		{"stamps", "the later stamp decides what has been seen, in place of the vector", []edit{
			{"crdt/join.go", "if !b.Seen.Covers(x[0].Dot) {", "if v := x[0].Version; !b.Seen.Covers(x[0].Dot) && (v == nil || b.liveVersion() == nil || v.Stamp.Compare(b.liveVersion().Stamp) > 0) {"},
			{"crdt/join.go", "if !a.Seen.Covers(y[0].Dot) {", "if v := y[0].Version; !a.Seen.Covers(y[0].Dot) && (v == nil || a.liveVersion() == nil || v.Stamp.Compare(a.liveVersion().Stamp) > 0) {"}}, nil},
		{"no-marker", "the folder's marker is not asked for", []edit{
			{"node/disk/folder.go", "\tid, mark, err := readMarker(d.fs)\n\tif err != nil {", "\tid, mark, err := readMarker(d.fs)\n\tif err != nil {\n\t\treturn nil\n\t}\n\tif err != nil {"},
			{"node/disk/folder.go", "\tif _, d.mark, err = readMarker(f); err != nil {\n\t\treturn nil, d.markerError(err)\n\t}", "\t_, d.mark, _ = readMarker(f)\n\tif err := f.Mkdir(home, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {\n\t\treturn nil, err\n\t}"}}, nil},
		{"unordered", "the operations of a plan are done in no order", []edit{
			{"node/materialise.go", "\tfor i, op := range ops {\n\t\tif err := w.ctx.Err(); err != nil {\n\t\t\treturn started, err\n\t\t}\n\t\tif slices.ContainsFunc(op.After, func(n int) bool { return !carried[n] }) {", "\tfor i := len(ops) - 1; i >= 0; i-- {\n\t\top := ops[i]\n\t\tif err := w.ctx.Err(); err != nil {\n\t\t\treturn started, err\n\t\t}\n\t\tif len(op.After) > len(ops) {"}}, nil},
		{"normal-form", "of three versions that meet, one does not become a file; of two, the loser does not", []edit{
			{"crdt/normal.go", "for _, f := range kept[1:] {\n\t\tcopies", "for _, f := range kept[min(2, len(kept)):] {\n\t\tcopies"}}, nil},
	}
}

func main() {
	histories := flag.Int("histories", 2000, "within which each must be noticed; 0: see only that each can still be made")
	seed := flag.Uint64("seed", 1, "of the first history")
	only := flag.String("only", "", "the one breakage to try")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *histories, *seed, *only); err != nil {
		fmt.Fprintln(os.Stderr, "breakages:", err)
		os.Exit(1)
	}
}

func run(repo string, histories int, seed uint64, only string) error {
	dir, err := os.MkdirTemp("", "sheaf-breakages")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := copyTracked(repo, dir); err != nil {
		return err
	}
	fmt.Println("| breakage | what is broken | noticed after | by |\n| --- | --- | --- | --- |")
	var missed []string
	for _, b := range breakages() {
		if only != "" && b.name != only {
			continue
		}
		n, by, err := try(dir, b, histories, seed)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", b.name, err)
		case histories == 0:
			fmt.Printf("| %s | %s | can be made | |\n", b.name, b.what)
		case n == 0:
			missed = append(missed, b.name)
			fmt.Printf("| %s | %s | not within %d | |\n", b.name, b.what, histories)
		default:
			fmt.Printf("| %s | %s | %d | %s |\n", b.name, b.what, n, by)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("not noticed: %s", strings.Join(missed, ", "))
	}
	return nil
}

// copyTracked copies what belongs to the repository, as it is now.
func copyTracked(repo, dir string) error {
	out, err := exec.Command("git", "-C", repo, "ls-files", "-z", "--cached", "--others", "--exclude-standard").Output()
	if err != nil {
		return fmt.Errorf("list the files: %w", err)
	}
	for _, name := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		data, err := os.ReadFile(filepath.Join(repo, name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(to, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// try breaks, runs histories, and mends. It gives how many histories it took, zero
// if they were not enough, and what was said first.
func try(dir string, b breakage, histories int, seed uint64) (n int, by string, err error) {
	saved := make(map[string][]byte)
	defer func() {
		for file, data := range saved {
			if werr := os.WriteFile(file, data, 0o644); err == nil {
				err = werr
			}
		}
	}()
	for _, e := range b.edits {
		file := filepath.Join(dir, e.file)
		data, err := os.ReadFile(file)
		if err != nil {
			return 0, "", err
		}
		if _, ok := saved[file]; !ok {
			saved[file] = data
		}
		if strings.Count(string(data), e.old) != 1 {
			return 0, "", fmt.Errorf("%s does not hold this once:\n%s", e.file, e.old)
		}
		if err := os.WriteFile(file, []byte(strings.Replace(string(data), e.old, e.new, 1)), 0o644); err != nil {
			return 0, "", err
		}
	}
	if histories == 0 {
		cmd := exec.Command("go", "build", "./...")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return 0, "", fmt.Errorf("%w\n%s", err, out)
		}
		return 0, "", nil
	}
	args := append([]string{"test", "./node", "-run", "TestSim$", "-count", "1", "-timeout", "60m", "-v",
		"-shrink", "0", "-histories", fmt.Sprint(histories), "-seed", fmt.Sprint(seed)}, b.flags...)
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOGC=400")
	out, err := cmd.CombinedOutput()
	if m := regexp.MustCompile(`history (\d+), seed \d+: ([a-z ]+)`).FindSubmatch(out); m != nil {
		_, _ = fmt.Sscan(string(m[1]), &n)
		return n, strings.TrimSuffix(string(m[2]), " after "), nil
	}
	if err == nil {
		return 0, "", nil
	}
	if strings.Contains(string(out), "panic:") && !strings.Contains(string(out), "build failed") {
		return 1, "a crash of the test", nil
	}
	return 0, "", fmt.Errorf("%w\n%s", err, out)
}
