package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	hazardRow  = regexp.MustCompile(`^\| ([A-Z]\d+) \| ([^|]+) \| ([^|]+) \|$`)
	hazardTest = regexp.MustCompile("`([a-z/]+)\\.((?:Test|Fuzz|Benchmark)\\w+)`")
)

// skippedForFault is how a test says so; in two parts, so that this is not one.
const skippedForFault = "t.Skip(" + `"fault: `

// TestHazardsTable holds docs/hazards.md to the source tree: every hazard of the
// lists has its row, a row names tests or says why there are none, every test that
// is named exists, and one that is skipped for a fault is called so.
func TestHazardsTable(t *testing.T) {
	t.Parallel()
	root := filepath.Join("..", "..")
	data, err := os.ReadFile(filepath.Join(root, "docs", "hazards.md"))
	if err != nil {
		t.Fatal(err)
	}
	missing := make(map[string]bool)
	for letter, n := range map[string]int{"S": 38, "H": 36, "B": 17, "Q": 15, "P": 19} {
		for i := range n {
			missing[fmt.Sprint(letter, i+1)] = true
		}
	}
	tests := make(map[string]map[string]string) // of a package, with what they say
	shown, declined := 0, 0
	for i, line := range strings.Split(string(data), "\n") {
		if !strings.HasPrefix(line, "|") || strings.HasPrefix(line, "| |") || strings.HasPrefix(line, "| ---") {
			continue
		}
		row := hazardRow.FindStringSubmatch(line)
		if row == nil {
			t.Errorf("line %d is no row of three parts: %s", i+1, line)
			continue
		}
		id, says := row[1], row[3]
		if !missing[id] {
			t.Errorf("line %d: %s stands twice, or is of no list", i+1, id)
		}
		delete(missing, id)
		named := hazardTest.FindAllStringSubmatch(says, -1)
		if strings.HasPrefix(says, "No test") {
			declined++
		} else if shown++; len(named) == 0 {
			t.Errorf("line %d: %s names no test, and does not say why", i+1, id)
		}
		for _, name := range named {
			dir, test := name[1], name[2]
			if tests[dir] == nil {
				tests[dir] = testsIn(t, filepath.Join(root, filepath.FromSlash(dir)))
			}
			body, ok := tests[dir][test]
			if !ok {
				t.Errorf("line %d: %s: there is no %s in %s", i+1, id, test, dir)
			}
			if strings.Contains(body, skippedForFault) && !strings.Contains(says, "fault") {
				t.Errorf("line %d: %s: %s is skipped for a fault, of which the row says nothing", i+1, id, test)
			}
		}
	}
	for id := range missing {
		t.Errorf("%s has no row", id)
	}
	t.Logf("%d hazards with tests, %d declined", shown, declined)
}

// testsIn gives the bodies of the tests, fuzz tests and benchmarks of a package.
func testsIn(t *testing.T, dir string) map[string]string {
	t.Helper()
	out := make(map[string]string)
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq("\n"+string(data), "\nfunc ") {
			name, _, ok := strings.Cut(part, "(")
			if ok && (strings.HasPrefix(name, "Test") || strings.HasPrefix(name, "Fuzz") || strings.HasPrefix(name, "Benchmark")) {
				out[name] = part
			}
		}
	}
	return out
}
