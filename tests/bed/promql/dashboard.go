package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"sort"
	"strings"
	"time"

	"github.com/prometheus/common/promslog"
	"github.com/prometheus/prometheus/promql"
)

// What is read of a dashboard: https://grafana.com/docs/grafana/latest/dashboards/build-dashboards/view-dashboard-json-model/
type dashboard struct {
	Panels []panel `json:"panels"`
}

type panel struct {
	Type        string `json:"type"`
	Title       string `json:"title"`
	GridPos     place  `json:"gridPos"`
	FieldConfig struct {
		Defaults struct {
			Unit       string   `json:"unit"`
			Min        *float64 `json:"min"`
			Thresholds struct {
				Steps []step `json:"steps"`
			} `json:"thresholds"`
		} `json:"defaults"`
	} `json:"fieldConfig"`
	Targets []target `json:"targets"`
	drawn   []line
}

type place struct{ X, Y, W, H int }

type step struct {
	Color string   `json:"color"`
	Value *float64 `json:"value"`
}

type target struct {
	Expr         string `json:"expr"`
	LegendFormat string `json:"legendFormat"`
}

// One series of a panel.
type line struct {
	legend string
	points []promql.FPoint
}

// The rate interval that Grafana would put there: some scrapes of the recording, which are a second apart.
const rateInterval = "10s"

func readDashboard(path string) (*dashboard, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	read := &dashboard{}
	return read, json.Unmarshal(text, read)
}

// Runs each panel's queries on a recording.
func (all *dashboard) query(read *recording, namespace string) error {
	engine := promql.NewEngine(promql.EngineOpts{
		Logger: promslog.NewNopLogger(), MaxSamples: 1 << 24, Timeout: time.Minute, LookbackDelta: 5 * time.Second,
	})
	begin, end := time.UnixMilli(read.times[0]), time.UnixMilli(read.times[len(read.times)-1])
	for number := range all.Panels {
		shown := &all.Panels[number]
		for _, wanted := range shown.Targets {
			text := strings.NewReplacer("$__rate_interval", rateInterval, "$namespace", namespace).Replace(wanted.Expr)
			query, err := engine.NewRangeQuery(context.Background(), read, nil, text, begin, end, time.Second)
			if err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
			matrix, err := query.Exec(context.Background()).Matrix()
			if err != nil {
				return fmt.Errorf("%s: %w", text, err)
			}
			sort.Sort(matrix)
			for _, series := range matrix {
				legend := wanted.LegendFormat
				for name, value := range series.Metric.Map() {
					legend = strings.ReplaceAll(legend, "{{"+name+"}}", value)
				}
				shown.drawn = append(shown.drawn, line{legend, series.Floats})
			}
		}
	}
	return nil
}

// Says how many series and samples each panel has that asks for any.
func (all *dashboard) summarise() ([]byte, error) {
	type row struct {
		Title   string   `json:"title"`
		Legends []string `json:"legends"`
		Samples int      `json:"samples"`
	}
	rows := []row{}
	for _, shown := range all.Panels {
		if len(shown.Targets) == 0 {
			continue
		}
		one := row{Title: shown.Title, Legends: []string{}}
		for _, drawn := range shown.drawn {
			one.Legends = append(one.Legends, drawn.legend)
			one.Samples += len(drawn.points)
		}
		rows = append(rows, one)
	}
	return json.MarshalIndent(rows, "", " ")
}
