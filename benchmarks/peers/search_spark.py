"""CrossValidator of Spark MLlib on two threads of one machine, from Parquet, which ``--prepare`` writes.

Rows are cached, as it advises, and two fits run at once. Folds are of random rows, so that scores are not
those of the other programs to the last digits. One fit before the clock runs warms the compiler of the Java
machine. Needs Java.
"""

from fit_spark import prepare, session
from report import Clock, arguments
from search_grid import FOLDS, STRENGTHS, penalties

if __name__ == "__main__":
    asked, report = arguments()
    folder = asked.scratch / f"{asked.store.stem}.parquet"
    if asked.prepare:
        clock = Clock()
        prepare(asked.store, folder)
        report.event("convert", seconds=clock.seconds)
        raise SystemExit
    from pyspark.ml.classification import LogisticRegression
    from pyspark.ml.evaluation import MulticlassClassificationEvaluator
    from pyspark.ml.functions import array_to_vector
    from pyspark.ml.tuning import CrossValidator, ParamGridBuilder

    spark = session(asked.scratch)
    spark.sparkContext.setLogLevel("ERROR")
    rows = spark.read.parquet(str(folder)).select("label", array_to_vector("values").alias("features"))
    one = LogisticRegression(standardization=False)
    one.copy({one.maxIter: 1}).fit(rows)

    clock = Clock()
    rows = rows.cache()
    rows.count()
    report.event("load", seconds=clock.seconds)
    clock = Clock()
    strengths = penalties(STRENGTHS).tolist()
    model = CrossValidator(
        estimator=one,
        estimatorParamMaps=ParamGridBuilder().addGrid(one.regParam, strengths).build(),
        evaluator=MulticlassClassificationEvaluator(metricName="logLoss"),
        numFolds=FOLDS,
        parallelism=2,
        seed=0,
    ).fit(rows)
    seconds, scores = clock.seconds, [-loss for loss in model.avgMetrics]
    best = model.bestModel
    report.event(
        "search",
        seconds=seconds,
        chosen=strengths[scores.index(max(scores))],
        score=max(scores),
        scores=scores,
        w=best.coefficients.toArray().tolist(),
        b=float(best.intercept),
    )
    spark.stop()
