package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// A recording is what scrapes showed: a line with their times in milliseconds, then a line for each series with its values, `=` where a value
// is that of the scrape before, and `-` where there was none.
//
//	# times 1764480000000 1764480001000 1764480002000
//	pullpass_leader{pod="a"} - 1 =
type recording struct {
	times  []int64
	series []storage.Series
}

func readRecording(path string) (*recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	read := &recording{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if times, found := strings.CutPrefix(line, "# times "); found {
			for _, word := range strings.Fields(times) {
				time, err := strconv.ParseInt(word, 10, 64)
				if err != nil {
					return nil, err
				}
				read.times = append(read.times, time)
			}
			continue
		}
		series, err := read.parse(line)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", line, err)
		}
		read.series = append(read.series, series)
	}
	if len(read.times) == 0 {
		return nil, fmt.Errorf("%s has no times", path)
	}
	return read, lines.Err()
}

func (read *recording) parse(line string) (storage.Series, error) {
	// Labels of ours hold no such bracket.
	end := strings.LastIndex(line, "}") + 1
	metric, err := parser.ParseMetric(line[:end])
	if err != nil {
		return nil, err
	}
	var samples []chunks.Sample
	last := math.NaN()
	for number, word := range strings.Fields(line[end:]) {
		if word == "-" || number >= len(read.times) {
			continue
		}
		if word != "=" {
			if last, err = strconv.ParseFloat(word, 64); err != nil {
				return nil, err
			}
		}
		samples = append(samples, sample{read.times[number], last})
	}
	return storage.NewListSeries(metric, samples), nil
}

type sample struct {
	time  int64
	value float64
}

func (one sample) T() int64                      { return one.time }
func (one sample) F() float64                    { return one.value }
func (one sample) H() *histogram.Histogram       { return nil }
func (one sample) FH() *histogram.FloatHistogram { return nil }
func (one sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (one sample) Copy() chunks.Sample           { return one }

// Querier makes a recording one that Prometheus' engine reads.
func (read *recording) Querier(_, _ int64) (storage.Querier, error) { return read, nil }
func (read *recording) Close() error                                { return nil }

func (read *recording) Select(_ context.Context, _ bool, _ *storage.SelectHints, matchers ...*labels.Matcher) storage.SeriesSet {
	found := &seriesSet{place: -1}
	for _, series := range read.series {
		if matches(series.Labels(), matchers) {
			found.all = append(found.all, series)
		}
	}
	return found
}

func matches(metric labels.Labels, matchers []*labels.Matcher) bool {
	for _, matcher := range matchers {
		if !matcher.Matches(metric.Get(matcher.Name)) {
			return false
		}
	}
	return true
}

func (read *recording) LabelValues(context.Context, string, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

func (read *recording) LabelNames(context.Context, *storage.LabelHints, ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	return nil, nil, nil
}

type seriesSet struct {
	all   []storage.Series
	place int
}

func (set *seriesSet) Next() bool {
	set.place++
	return set.place < len(set.all)
}
func (set *seriesSet) At() storage.Series                { return set.all[set.place] }
func (set *seriesSet) Err() error                        { return nil }
func (set *seriesSet) Warnings() annotations.Annotations { return nil }
