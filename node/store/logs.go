package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/syndtr/goleveldb/leveldb/util"
)

// The database's journals and manifests are logs: records in blocks of 32 KiB,
// each record in chunks with a sum (the LevelDB log format). A crash may leave
// a log with a record at its end that was not written whole: opened strictly,
// the library refuses it; opened leniently, it also passes over damage in the
// middle, which loses commits in silence. So the logs are looked at here first.

const (
	logBlock  = 32 << 10
	logHeader = 7 // sum (4, little endian), length (2), type (1)

	chunkFull, chunkFirst, chunkMiddle, chunkLast = 1, 2, 3, 4
)

type logState int

const (
	logWhole  logState = iota
	logCut             // it ends in the middle of a record, perhaps filled up with zeros: a write that was under way
	logBroken          // its last record is there and wrong
	logHoled           // something in the middle is wrong
)

// scanLog gives where the last good record of a log ends, and what follows.
func scanLog(data []byte) (end int, state logState) {
	at := 0         // the next chunk
	inside := false // of a record
	for at < len(data) {
		if left := logBlock - at%logBlock; left < logHeader {
			at += left // the rest of a block that no header fits into
			continue
		}
		size, kind, ok := chunkAt(data, at)
		if !ok || inside != (kind == chunkMiddle || kind == chunkLast) {
			return end, logEnd(data, at)
		}
		at += logHeader + size
		if inside = kind == chunkFirst || kind == chunkMiddle; !inside {
			end = at
		}
	}
	if inside {
		return end, logCut
	}
	return end, logWhole
}

// chunkAt tells whether a good chunk stands at an offset.
func chunkAt(data []byte, at int) (size, kind int, ok bool) {
	if at+logHeader > len(data) {
		return 0, 0, false
	}
	size = int(binary.LittleEndian.Uint16(data[at+4:]))
	kind = int(data[at+6])
	stop := at + logHeader + size
	if kind < chunkFull || kind > chunkLast || stop > len(data) || (at%logBlock)+logHeader+size > logBlock {
		return 0, 0, false
	}
	return size, kind, binary.LittleEndian.Uint32(data[at:]) == util.NewCRC(data[at+6:stop]).Value()
}

// logEnd judges a log that has no good chunk at an offset.
func logEnd(data []byte, at int) logState {
	for i := at + 1; i+logHeader < len(data); i++ {
		if size, _, ok := chunkAt(data, i); ok && size > 0 {
			return logHoled
		}
	}
	if at+logHeader > len(data) || zeroSectors(data[at:], at) {
		return logCut
	}
	size := int(binary.LittleEndian.Uint16(data[at+4:]))
	if kind := data[at+6]; kind < chunkFull || kind > chunkLast || at%logBlock+logHeader+size > logBlock {
		return logBroken
	}
	if at+logHeader+size > len(data) {
		return logCut
	}
	return logBroken // a whole chunk with a wrong sum
}

// zeroSectors tells whether data, which starts at an offset of a file, ends in
// zeros from the start of a sector on, or holds nothing else: what a file system
// leaves that made the file longer and then did not come to write it.
func zeroSectors(data []byte, offset int) bool {
	full := len(bytes.TrimRight(data, "\x00"))
	return full == 0 || full < len(data) && (offset+full+sector-1)/sector*sector < offset+len(data)
}

const sector = 512

// databaseFiles gives the paths of the database's files; nil if dir is not there.
func databaseFiles(dir string) ([]string, error) {
	names, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	files := make([]string, 0, len(names))
	for _, n := range names {
		name := n.Name()
		if strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "CURRENT") || slices.Contains([]string{".log", ".ldb", ".sst"}, filepath.Ext(name)) {
			files = append(files, filepath.Join(dir, name))
		}
	}
	slices.SortFunc(files, func(a, b string) int { // numbers grow beyond their padding
		return slices.Compare([]int{len(a)}, []int{len(b)})*2 + strings.Compare(a, b)
	})
	return files, nil
}

// A logCutAt is a log whose end is to be dropped.
type logCutAt struct {
	path     string
	end, was int64
}

// judgeLogs tells what a crash left unfinished at the ends of logs, and why the
// database may lack what it had acknowledged, "" if there is no sign of that
// here. It gives a *damage if a log cannot be trusted. It changes nothing.
func judgeLogs(files []string) (cuts []logCutAt, suspect string, err error) {
	unfinished := "" // a journal that ended too early
	for _, path := range files {
		name := filepath.Base(path)
		journal := filepath.Ext(name) == ".log"
		if !journal && !strings.HasPrefix(name, "MANIFEST-") {
			continue
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, "", err
		}
		end, state := scanLog(data)
		if journal && unfinished != "" && end > 0 {
			return nil, "", &damage{fmt.Errorf("journal %s ends too early, and %s goes on", unfinished, name)}
		}
		switch {
		case state == logWhole:
			continue
		case state == logCut:
		case state == logBroken && journal:
			suspect = "the last record of its journal was damaged"
		default:
			return nil, "", &damage{fmt.Errorf("%s is damaged at byte %d of %d", name, end, len(data))}
		}
		if journal {
			unfinished = name
		}
		cuts = append(cuts, logCutAt{path, int64(end), int64(len(data))})
	}
	return cuts, suspect, nil
}

// cutLogs drops the ends.
func cutLogs(cuts []logCutAt, log *slog.Logger) error {
	for _, c := range cuts {
		log.Warn("the index database's log ends in an unfinished write: dropped", "file", c.path, "bytes", c.was-c.end, "at", c.end)
		if err := cutFile(c.path, c.end); err != nil {
			return err
		}
	}
	return nil
}

func cutFile(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(size)
	if serr := f.Sync(); err == nil {
		err = serr
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

const (
	tableFooter = 48
	tableMagic  = "\x57\xfb\x80\x8b\x24\x75\x47\xdb"
)

// checkTables looks at the one part of the database's tables that has no sum:
// the footers, which say how much to read and where. (A table without the magic
// number at its end was not finished and is not in use; if it is, the library
// says so.)
func checkTables(files []string) error {
	for _, path := range files {
		if ext := filepath.Ext(path); ext != ".ldb" && ext != ".sst" {
			continue
		}
		if err := checkTable(path); err != nil {
			return err
		}
	}
	return nil
}

func checkTable(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.Size() < tableFooter {
		return err
	}
	footer := make([]byte, tableFooter)
	if _, err := f.ReadAt(footer, info.Size()-tableFooter); err != nil {
		return err
	}
	if !bytes.HasSuffix(footer, []byte(tableMagic)) {
		return nil
	}
	d := reading{b: footer}
	for range 2 { // where the two indexes are
		offset, size := d.uint(), d.uint()
		if most := uint64(info.Size()); d.bad || offset > most || size > most || offset+size > most {
			return &damage{fmt.Errorf("the footer of %s is damaged", filepath.Base(path))}
		}
	}
	return nil
}
