// Marks faults in the charts of locust's web UI and of its reports.
//
// The charts are made by echarts in a React page, and have no public names. An element of the page leads to the component
// that drew it, and that has the chart in its state. If another version of locust differs, the charts stay as they are;
// the tab "Faults" has the same in words.
"use strict";

(() => {
  const ID = "reconnect-faults";
  const COLOR = "#d62728";

  const chartOf = (element) => {
    const name = Object.keys(element).find((key) => key.startsWith("__reactFiber$"));
    for (let fiber = element[name]; fiber; fiber = fiber.return) {
      for (const version of [fiber, fiber.alternate]) {
        for (let hook = version?.memoizedState; hook; hook = hook.next) {
          if (typeof hook.memoizedState?.setOption === "function") return hook.memoizedState;
        }
      }
    }
    return null;
  };

  // A fault is a band from its begin to its end, as high as the chart; a momentary one is a line. locust's build of echarts
  // has no marks of its own, so the bands are drawn as a line chart over a hidden axis.
  const bandOf = ({ label, from, to }) => {
    const [begin, end] = [from * 1000, (to ?? from) * 1000];
    const named = { show: true, formatter: label, position: "right", rotate: 90, align: "right", offset: [-4, 4] };
    return [
      [begin, 0],
      { value: [begin, 1], label: { ...named, fontSize: 10, color: COLOR } },
      [end, 1],
      [end, 0],
      [end, null],
    ];
  };

  const mark = (chart, faults) => {
    chart.setOption({
      yAxis: [{ id: ID, type: "value", min: 0, max: 1, show: false }],
      series: [
        {
          id: ID,
          name: "faults",
          type: "line",
          yAxisId: ID,
          data: faults.flatMap(bandOf),
          silent: true,
          animation: false,
          symbolSize: 0.1,
          showAllSymbol: true,
          itemStyle: { color: COLOR },
          lineStyle: { color: COLOR, width: 1 },
          areaStyle: { color: COLOR, opacity: 0.15 },
          tooltip: { show: false },
        },
      ],
    });
  };

  const draw = (faults) => {
    for (const element of document.querySelectorAll("[_echarts_instance_]")) {
      const chart = chartOf(element);
      if (chart && (faults.length || chart.getOption().series.some(({ id }) => id === ID))) mark(chart, faults);
    }
  };

  // For tests: where the bands of each chart begin, in its pixels, and their labels.
  window.reconnectMarks = () =>
    [...document.querySelectorAll("[_echarts_instance_]")].map((element) => {
      const chart = chartOf(element);
      const series = chart?.getOption().series.find(({ id }) => id === ID);
      const begins = (series?.data ?? []).filter((point) => point.label);
      return begins.map(({ value, label }) => ({
        label: label.formatter,
        from: value[0],
        x: chart.convertToPixel({ seriesId: ID }, value)[0],
      }));
    });

  if (window.reconnectFaults) {
    // A report: it contains all faults, and draws its charts a moment later.
    const wait = setInterval(() => {
      const elements = [...document.querySelectorAll("[_echarts_instance_]")];
      if (elements.length && elements.every(chartOf)) {
        clearInterval(wait);
        draw(window.reconnectFaults);
      }
    }, 100);
  } else {
    setInterval(async () => {
      const answer = await fetch("./reconnect/faults").catch(() => null);
      if (answer?.ok) draw(await answer.json());
    }, 2000);
  }
})();
